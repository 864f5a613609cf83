"""The JAX code's NCSN++: its names for our SongUNet's weights, by the order of its calls."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, MutableMapping

import torch

# Ours -> theirs: of layers that are there once, and of the parts of a block.
_ONCE = {
    'map_noise': 'GaussianFourierProjection_0',
    'map_layer0': 'Dense_0',
    'map_layer1': 'Dense_1',
}
_ENDS = {'conv': 'Conv_0', 'aux_norm': 'GroupNorm_0', 'aux_conv': 'Conv_1'}
_RESIDUAL = {
    'norm0': 'GroupNorm_0',
    'conv0': 'Conv_0',
    'affine': 'Dense_0',
    'norm1': 'GroupNorm_1',
    'conv1': 'Conv_1',
    'skip': 'Conv_2',
}
_ATTENTION = {'norm2': ('GroupNorm_0',), 'qkv': ('NIN_0', 'NIN_1', 'NIN_2'), 'proj': ('NIN_3',)}
_PARAMETERS = {'weight': ('kernel', 'scale', 'W', 'weight'), 'bias': ('bias', 'b'), 'freqs': ('W',)}
_TAPS = (1, 3, 3, 1)  # of the filter, which is a constant there


def is_jax(names: Iterable[str]) -> bool:
    """Whether names are those of flax."""
    return any('/' in name for name in names)


def from_jax(
    weights: MutableMapping[str, torch.Tensor], names: Collection[str], prefix: str
) -> None:
    """Give weights a SongUNet's names and shapes, in place; what is not known stays as it is.

    Args:
        weights: Those of an NCSN++ by flax's names, and maybe others.
        names: Of the SongUNet, in the order in which it is built: that of the calls.
        prefix: Before both kinds of names.
    """
    for ours, theirs in _layers(names):
        for parameter, endings in _PARAMETERS.items():
            known = [[f'{prefix}{layer}/{end}' for end in endings] for layer in theirs]
            found = [name for ends in known for name in ends if name in weights]
            alike = len({weights[name].shape for name in found}) == 1
            if f'{ours}.{parameter}' in names and alike and len(found) == len(theirs):
                tensors = [weights.pop(name) for name in found]
                weights[f'{prefix}{ours}.{parameter}'] = _joined(tensors, ours)
    taps = torch.tensor(_TAPS, dtype=torch.float32)
    for name in names:
        layer, _, kind = name.rpartition('.')
        if kind == 'resample_filter' and f'{prefix}{layer}.weight' in weights:
            weights[prefix + name] = taps.outer(taps)[None, None] / taps.sum() ** 2


def _layers(names: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each layer of ours, and the one or three of theirs."""
    calls: Counter[str] = Counter()

    def call(kind: str) -> str:
        calls[kind] += 1
        return f'{kind}_{calls[kind] - 1}'

    for ours, theirs in _ONCE.items():
        yield ours, (theirs,)
    blocks = ('.'.join(n.split('.')[:2]) for n in names if n.startswith(('enc.', 'dec.')))
    for block in dict.fromkeys(blocks):
        kind = block.partition('_')[2]
        if kind in _ENDS:
            yield block, (_ENDS[kind],)
        elif kind == 'aux_residual':
            yield block, (f'{call("Downsample")}/Conv2d_0',)
        else:
            residual = call('ResnetBlockBigGANpp')
            for ours, theirs in _RESIDUAL.items():
                yield f'{block}.{ours}', (f'{residual}/{theirs}',)
            if f'{block}.qkv.weight' in names:
                attention = call('AttnBlockpp')
                for ours, layers in _ATTENTION.items():
                    yield f'{block}.{ours}', tuple(f'{attention}/{layer}' for layer in layers)


def _joined(tensors: list[torch.Tensor], ours: str) -> torch.Tensor:
    """One tensor of ours: theirs have the axes of a matrix or of a filter the other way round."""
    if tensors[0].ndim == 4:
        tensors = [tensor.permute(3, 2, 0, 1) for tensor in tensors]
    elif tensors[0].ndim == 2:
        tensors = [tensor.T for tensor in tensors]
    # Of three, rows are (channel, three).
    tensor = torch.stack(tensors, dim=1).flatten(0, 1)
    one_by_one = tensor.ndim == 2 and ours.endswith(('.qkv', '.proj'))
    return tensor[:, :, None, None] if one_by_one else tensor
