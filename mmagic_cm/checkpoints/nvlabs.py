"""Networks as NVlabs' EDM and its descendants ECT, TCM and CMT pickle them, by our names."""

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from .layouts import NETWORK
from .nvlabs_pickle import Held, load_objects

_PARTS = ('_parameters', '_buffers', '_modules')
# In the source of ECT's and CMT's class; that of TCM has the same name, and does not shift.
_SHIFT = 'sigma - self.sigma_min'


def is_nvlabs(beginning: bytes) -> bool:
    """Whether a file that begins so is a pickle of objects."""
    return beginning[:1] == pickle.PROTO and b'torch_utils.persistence' in beginning


def read_nvlabs(path: Path) -> dict[str, Any]:
    """Read the averaged network of such a file.

    Args:
        path: The file.

    Returns:
        ``state_dict`` by our names, and ``meta`` with the config that the file amounts to.

    Raises:
        InputError: It is of another network than these methods have, such as EDM2's.
        pickle.UnpicklingError: It holds, names or does anything that such files do not.
        Exception: A damaged file can break the reader anywhere.
    """
    content = load_objects(path)
    denoiser = content.get('ema') if isinstance(content, dict) else None
    if not isinstance(denoiser, Held):
        raise pickle.UnpicklingError("it has no averaged network, 'ema'")
    scalings = _scalings(denoiser)
    network = next(iter(denoiser.state['_modules'].values()))
    kind = _KINDS.get(network.name)
    if kind is None:
        raise InputError(f'its network is a {network.name}, which is not known here.')
    weights = {name: tensor for name, tensor in tensors_of(network) if torch.is_tensor(tensor)}
    settings, weights = kind(network.state['_init_kwargs'], weights)
    config = dict(type='ConsistencyModel', denoiser=scalings | dict(network=settings))
    if denoiser.name == 'EDMPrecond':  # as EDM draws CIFAR-10: 35 evaluations
        config['sampler'] = dict(type='HeunSampler', num_steps=18)
    names = OrderedDict((NETWORK + name, tensor) for name, tensor in weights.items())
    return dict(state_dict=names, meta=dict(cfg=f'model = {config}'))


def tensors_of(module: Held, prefix: str = '') -> Iterator[tuple[str, torch.Tensor]]:
    """All parameters and buffers by name, in the order of the file, each module once."""
    todo, seen = [(module, prefix)], set()
    while todo:
        module, prefix = todo.pop()
        if not isinstance(module, Held) or id(module) in seen:
            continue
        seen.add(id(module))
        parameters, buffers, modules = (module.state.get(part, {}) for part in _PARTS)
        for name, tensor in [*parameters.items(), *buffers.items()]:
            yield f'{prefix}{name}', tensor
        todo += reversed([(part, f'{prefix}{name}.') for name, part in modules.items()])


def _scalings(denoiser: Held) -> dict[str, Any]:
    """Of ECT and CMT the boundary is at ``sigma_min``, of EDM and TCM at 0."""
    scalings = dict(type='KarrasDenoiser', parameterization='edm', c_noise='edm')
    if denoiser.name == 'ECMPrecond':
        scalings['sigma_min'] = float(denoiser.state['sigma_min'])
        if not denoiser.source or _SHIFT in denoiser.source:
            scalings['parameterization'] = 'consistency'
    elif denoiser.name != 'EDMPrecond':
        raise InputError(f'its averaged network is a {denoiser.name}, which is not known here.')
    return dict(scalings, sigma_data=float(denoiser.state['sigma_data']))


def _song(theirs: Mapping[str, Any], weights: Mapping) -> tuple[dict, Mapping]:
    if theirs.get('decoder_type', 'standard') != 'standard':
        raise pickle.UnpicklingError('its decoder is not the standard one')
    given = dict(
        model_channels=theirs.get('model_channels', 128),
        num_res_blocks=theirs.get('num_blocks', 4),
        attention_resolutions=theirs.get('attn_resolutions', [16]),
        channel_mult=theirs.get('channel_mult', [1, 2, 2, 2]),
        dropout=theirs.get('dropout', 0.1),
        augment_dim=theirs.get('augment_dim', 0),
        channel_mult_noise=theirs.get('channel_mult_noise', 1),
        embedding=theirs.get('embedding_type', 'positional'),
        encoder=theirs.get('encoder_type', 'standard'),
        resample_filter=theirs.get('resample_filter', [1, 1]),
    )
    return _common('SongUNet', theirs) | given, weights


def _common(name: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        type=name,
        image_size=theirs['img_resolution'],
        in_channels=theirs['in_channels'],
        out_channels=theirs['out_channels'],
        num_classes=theirs.get('label_dim', 0) or None,
    )


# Of a block: which member of ours it is in, and under which name.
_PARTS_OF_BLOCK = {
    'norm0': (0, 'in_layers.0'),
    'conv0': (0, 'in_layers.2'),
    'affine': (0, 'emb_layers.1'),
    'norm1': (0, 'out_layers.0'),
    'conv1': (0, 'out_layers.3'),
    'skip': (0, 'skip_connection'),
    'norm2': (1, 'norm'),
    'qkv': (1, 'qkv'),
    'proj': (1, 'proj_out'),
}
_OUTSIDE = {
    'map_layer0': 'time_embed.0',
    'map_layer1': 'time_embed.2',
    'map_label': 'label_emb',
    'out_norm': 'out.0',
    'out_conv': 'out.2',
}


def _adm(theirs: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> tuple[dict, dict]:
    """EDM's network for ImageNet-64 is ADM's, but for the names and the rows of the attention."""
    places, renamed = _places(weights), {}
    for name, tensor in weights.items():
        *where, kind = name.split('.')
        if kind == 'resample_filter':  # which averages and repeats pixels, as ours does
            continue
        if where[0] in _OUTSIDE:
            prefix = _OUTSIDE[where[0]]
            tensor = tensor.T if where[0] == 'map_label' else tensor
        else:
            place, first = places['.'.join(where[:2])]
            member, part = _PARTS_OF_BLOCK[where[2]] if len(where) == 3 else (0, '')
            prefix = f'{place}.{first + member}.{part}'.rstrip('.')
            if part == 'qkv':  # theirs are (head, dim, three), ours (three, head, dim)
                rows = tensor.reshape(-1, 3, *tensor.shape[1:]).transpose(0, 1)
                tensor = rows.reshape(tensor.shape)
        renamed[f'{prefix}.{kind}'] = tensor
    settings = dict(
        model_channels=theirs.get('model_channels', 192),
        num_res_blocks=theirs.get('num_blocks', 3),
        attention_resolutions=theirs.get('attn_resolutions', [32, 16, 8]),
        channel_mult=theirs.get('channel_mult', [1, 2, 3, 4]),
        dropout=theirs.get('dropout', 0.1),
        num_head_channels=64,
    )
    return _common('ADMUNet', theirs) | settings, renamed


def _places(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, int]]:
    """Where each of their blocks is in ours, and its first member there."""
    blocks = dict.fromkeys('.'.join(n.split('.')[:2]) for n in weights if n[:4] in ('enc.', 'dec.'))
    places: dict[str, tuple[str, int]] = {}
    outputs, before = 0, ''
    for block in blocks:
        kind = block.rpartition('_')[2]
        if block.startswith('enc'):
            places[block] = f'input_blocks.{len(places)}', 0
        elif kind in ('in0', 'in1'):
            places[block] = 'middle_block', 2 * (kind == 'in1')
        elif kind == 'up':  # the last member of what comes before it
            places[block] = places[before][0], 1 + (f'{before}.qkv.weight' in weights)
        else:
            places[block] = f'output_blocks.{outputs}', 0
            outputs += 1
        before = block
    return places


_KINDS = {'SongUNet': _song, 'DhariwalUNet': _adm}
