"""The layout of diffusers' UNet2DModel: its names for our network's weights, and its settings."""

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import nn

from ..errors import InputError

# Ours -> theirs.
_ENDS = {
    'time_embed.0': 'time_embedding.linear_1',
    'time_embed.2': 'time_embedding.linear_2',
    'label_emb': 'class_embedding',
    'input_blocks.0.0': 'conv_in',
    'out.0': 'conv_norm_out',
    'out.2': 'conv_out',
}
_RESIDUAL = {
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}
_PARTS = {
    'resnets': _RESIDUAL,
    'attentions': {'norm': 'group_norm', 'qkv': 'to_{}', 'proj_out': 'to_out.0'},
    'downsamplers': {**_RESIDUAL, 'op': 'conv'},
    'upsamplers': {**_RESIDUAL, 'conv': 'conv'},
}
# Settings of a UNet2DModel that leave no trace in its weights' names and shapes, so that a
# disagreement would load and draw garbage.
_INVISIBLE = (
    *('sample_size', 'attention_head_dim', 'norm_num_groups', 'attn_norm_num_groups', 'norm_eps'),
    *('center_input_sample', 'time_embedding_type', 'freq_shift', 'flip_sin_to_cos', 'act_fn'),
    *('mid_block_scale_factor', 'downsample_padding', 'class_embed_type'),
)


def is_diffusers(weights: Mapping) -> bool:
    """Whether names are those of a UNet2DModel."""
    return any(name.startswith(('conv_in.', 'down_blocks.')) for name in weights)


def from_diffusers(weights: MutableMapping[str, torch.Tensor]) -> None:
    """Give weights our network's names and shapes, in place; what is not known stays as it is."""
    ups = _count(weights, r'up_blocks\.(\d+)\.')
    depth = _count(weights, r'up_blocks\.0\.resnets\.(\d+)\.') - 1

    def attends(level: int) -> bool:
        return any(name.startswith(f'up_blocks.{level}.attentions.') for name in weights)

    for ours, theirs in _names(ups, depth, attends):
        parts = [weights.get(name) for name in theirs]
        alike = len({getattr(part, 'shape', None) for part in parts}) == 1
        if ours in weights or not alike or not isinstance(parts[0], torch.Tensor):
            continue
        for name in theirs:
            del weights[name]
        # Linear q, k, v -> one 1x1 convolution, whose channels are (three, heads, dim).
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        linear = ours.endswith(('qkv.weight', 'proj_out.weight')) and tensor.ndim == 2
        weights[ours] = tensor[:, :, None, None] if linear else tensor


def to_diffusers(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of our network by a UNet2DModel's names: the inverse of from_diffusers."""
    left = dict(weights)
    renamed = {}
    for ours, theirs in _names(*_structure(weights)):
        if ours not in left:
            continue
        tensor = left.pop(ours)
        if ours.endswith(('qkv.weight', 'proj_out.weight')):
            tensor = tensor[:, :, 0, 0]
        renamed.update(zip(theirs, tensor.chunk(len(theirs)), strict=True))
    if left:
        raise InputError(f'A UNet2DModel has no place for {min(left)}.')
    return renamed


def _count(weights: Mapping, pattern: str) -> int:
    """Number of blocks whose index stands in the group of the pattern."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _structure(weights: Mapping) -> tuple[int, int, Callable[[int], bool]]:
    """Number of levels, residual blocks of each, and which of them attend; up side first."""
    upsample = r'output_blocks\.(\d+)\.(?:2\.|1\.conv\.|1\.in_layers\.)'
    levels = 1 + _count(weights, upsample)
    depth = _count(weights, r'output_blocks\.(\d+)\.') // levels - 1

    def attends(level: int) -> bool:
        return f'output_blocks.{level * (depth + 1)}.1.qkv.weight' in weights

    return levels, depth, attends


def _names(
    levels: int, depth: int, attends: Callable[[int], bool]
) -> Iterator[tuple[str, list[str]]]:
    """Every parameter's name here and its one or three names there."""
    pairs = [*_ENDS.items()]
    for ours, theirs in _blocks(levels, depth, attends):
        kind = theirs.split('.')[-2]
        pairs += [(f'{ours}.{a}', f'{theirs}.{b}') for a, b in _PARTS[kind].items()]
    for ours, theirs in pairs:
        several = [theirs.format(part) for part in 'qkv'] if '{}' in theirs else [theirs]
        for parameter in ('weight', 'bias'):
            yield f'{ours}.{parameter}', [f'{name}.{parameter}' for name in several]


def _blocks(levels: int, depth: int, attends: Callable[[int], bool]) -> Iterator[tuple[str, str]]:
    """Every block by both names, and some that no network has."""
    for level in range(levels):
        first, theirs = 1 + level * (depth + 1), f'down_blocks.{level}'
        for i in range(depth):
            yield f'input_blocks.{first + i}.0', f'{theirs}.resnets.{i}'
            yield f'input_blocks.{first + i}.1', f'{theirs}.attentions.{i}'
        yield f'input_blocks.{first + depth}.0', f'{theirs}.downsamplers.0'
    for i, block in enumerate(('resnets.0', 'attentions.0', 'resnets.1')):
        yield f'middle_block.{i}', f'mid_block.{block}'
    for level in range(levels):
        first, theirs = level * (depth + 1), f'up_blocks.{level}'
        for i in range(depth + 1):
            yield f'output_blocks.{first + i}.0', f'{theirs}.resnets.{i}'
            if attends(level):
                yield f'output_blocks.{first + i}.1', f'{theirs}.attentions.{i}'
        yield f'output_blocks.{first + depth}.{1 + attends(level)}', f'{theirs}.upsamplers.0'


def unet_config(network: nn.Module) -> dict[str, Any]:
    """The settings with which a UNet2DModel computes what an ``ADMUNet`` computes.

    Args:
        network: On any device; only shapes are looked at.

    Raises:
        InputError: UNet2DModel cannot compute it.
    """
    weights = network.state_dict()
    if 'input_blocks.0.0.weight' not in weights:
        raise InputError(f'UNet2DModel cannot compute a {type(network).__name__}.')
    if network.null_class:
        raise InputError(
            'UNet2DModel does not know "no class": a network with null_class cannot be written '
            'for diffusers.'
        )
    levels, depth, attends = _structure(weights)
    widths = [
        weights[f'output_blocks.{level * (depth + 1)}.0.in_layers.2.weight'].shape[0]
        for level in range(levels)
    ]
    if widths[-1] != network.model_channels:
        raise InputError(
            f'UNet2DModel embeds the noise level in as many channels as its first level has, '
            f'{widths[-1]}; this network in model_channels = {network.model_channels}.'
        )
    heads = {
        module.proj_out.in_channels // module.num_heads
        for module in network.modules()
        if hasattr(module, 'qkv')
    }
    if len(heads) > 1:
        raise InputError(
            f'UNet2DModel has one width for all attention heads; this network has {sorted(heads)} '
            f'(num_heads instead of num_head_channels).'
        )
    (groups,) = {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)}
    convolves = any('.op.' in name for name in weights)
    plain = ('DownBlock2D', 'UpBlock2D')
    if not convolves:
        plain = ('ResnetDownsampleBlock2D', 'ResnetUpsampleBlock2D')
    down, up = (
        [attending if attends(level) else other for level in range(levels)]
        for attending, other in zip(('AttnDownBlock2D', 'AttnUpBlock2D'), plain, strict=True)
    )
    embedding = weights['middle_block.0.emb_layers.1.weight'].shape[0]
    return dict(
        sample_size=network.image_size,
        in_channels=network.in_channels,
        out_channels=weights['out.2.weight'].shape[0],
        center_input_sample=False,
        time_embedding_type='positional',
        freq_shift=0,
        flip_sin_to_cos=True,
        down_block_types=down[::-1],
        up_block_types=up,
        block_out_channels=widths[::-1],
        layers_per_block=depth,
        mid_block_scale_factor=1,
        downsample_padding=1,
        downsample_type='conv' if convolves else 'resnet',
        upsample_type='conv' if convolves else 'resnet',
        dropout=0.0,
        act_fn='silu',
        attention_head_dim=heads.pop(),
        norm_num_groups=groups,
        attn_norm_num_groups=groups,
        norm_eps=1e-5,
        resnet_time_scale_shift='scale_shift' if embedding == 2 * widths[0] else 'default',
        add_attention=True,
        class_embed_type=None,
        num_class_embeds=network.num_classes,
    )


def network_config(unet: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the ``ADMUNet`` that computes what a UNet2DModel computes.

    The inverse of :func:`unet_config`. Where an ``ADMUNet`` cannot compute it,
    :func:`check_unet_config` or the weights' names and shapes say so.

    Args:
        unet: The ``config.json`` of the UNet2DModel.
    """
    size, widths = int(unet['sample_size']), [int(width) for width in unet['block_out_channels']]
    classes = unet['num_class_embeds']
    return dict(
        type='ADMUNet',
        image_size=size,
        model_channels=widths[0],
        num_res_blocks=int(unet['layers_per_block']),
        in_channels=int(unet['in_channels']),
        out_channels=int(unet['out_channels']),
        attention_resolutions=tuple(
            size >> level
            for level, kind in enumerate(unet['down_block_types'])
            if kind.startswith('Attn')
        ),
        channel_mult=tuple(width / widths[0] for width in widths),
        num_classes=None if classes is None else int(classes),
        num_head_channels=int(unet['attention_head_dim']),
        use_scale_shift_norm=unet['resnet_time_scale_shift'] == 'scale_shift',
        resblock_updown=unet['downsample_type'] == 'resnet',
        norm_groups=int(unet['norm_num_groups']),
    )


def check_unet_config(found: Mapping[str, Any], network: nn.Module) -> None:
    """Refuse weights of a UNet2DModel that computes something else with them than the network.

    Args:
        found: Its ``config.json``.
        network: What the weights are meant for.

    Raises:
        InputError: Names the settings that differ.
    """
    expected = unet_config(network)
    different = [
        f'{name} is {found[name]!r} instead of {expected[name]!r}'
        for name in _INVISIBLE
        if found.get(name, expected[name]) not in (expected[name], None)
        # "swish" is another name of SiLU.
        and (name, found[name]) != ('act_fn', 'swish')
    ]
    if different:
        raise InputError(f'The UNet2DModel does not fit this model: {"; ".join(different[:3])}.')
