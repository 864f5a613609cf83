"""Checkpoints as openai/consistency_models_cifar10 saves them by flax: msgpack, of a closed kind.

What is kept of such a file is built while it is read, by an unpacker that knows maps, short texts
and arrays of plain numbers; the optimizer's state is skipped. The names stay as they are:
:mod:`.jax_layout` brings them into a model's.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import torch

from ..errors import InputError
from .layouts import NETWORK, TARGET

_NEEDED = ('params', 'params_ema', 'ema_rate')
_KEPT = (*_NEEDED, 'target_params')
# Of msgpack's extensions those that flax calls arrays and scalars of numpy.
_ARRAYS = (1, 3)
_CHUNKED = '__msgpack_chunked_array__'
_TYPES = ('float16', 'float32', 'float64', 'uint8', 'int8', 'int16', 'int32', 'int64')
# Names are made of a few short parts, and no array has more axes.
_MAX_TEXT, _MAX_PARTS, _MAX_AXES = 64, 4, 8


def is_flax(beginning: bytes) -> bool:
    """Whether a file that begins so is a map of msgpack whose first key is a short text."""
    return len(beginning) > 1 and 0x81 <= beginning[0] <= 0x8F and 0xA1 <= beginning[1] <= 0xBF


def read_jax(path: Path) -> dict[str, Any]:
    """Read the networks of such a file.

    Args:
        path: The file.

    Returns:
        ``state_dict`` with the online network and, where there is one, the target network; and
        ``emas`` with the average by its rate. By flax's names behind our prefixes.

    Raises:
        InputError: It is of another program, or of numbers that are not known here.
        Exception: A damaged file can break the reader anywhere.
    """
    content = {}
    with open(path, 'rb') as file:
        # Lists are in no such file: they would be reserved by the length that they claim.
        unpacker = msgpack.Unpacker(
            file,
            ext_hook=_tensor,
            max_buffer_size=path.stat().st_size,
            max_array_len=0,
            max_str_len=_MAX_TEXT,
        )
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key in _KEPT:
                content[key] = unpacker.unpack()
            else:
                unpacker.skip()
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise InputError(
            f'it is msgpack without {missing[0]!r}: of such files only those of '
            f'openai/consistency_models_cifar10 are known here.'
        )
    state_dict = dict(_named(content['params'], NETWORK))
    state_dict |= _named(content.get('target_params', {}), TARGET)
    rate = f'{content["ema_rate"].item():.7g}'  # as it was typed; in the file it is float32
    average = dict(_named(content['params_ema'], NETWORK.removeprefix('denoiser.')))
    return dict(state_dict=state_dict, emas={rate: average})


def _tensor(code: int, data: bytes) -> torch.Tensor:
    """An array of msgpack's extension: its shape, the name of its type, its bytes."""
    if code not in _ARRAYS:
        raise ValueError(f'an extension {code} of msgpack is no array')
    shape, kind, values = msgpack.unpackb(data, max_array_len=_MAX_AXES, max_map_len=0)
    if kind not in _TYPES:
        raise InputError(f'it has numbers of the type {kind!r}; known are {", ".join(_TYPES)}.')
    # A copy, since tensors can be written to.
    return _shaped(torch.frombuffer(bytearray(values), dtype=getattr(torch, kind)), shape)


def _shaped(values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    wrong = len(shape) > _MAX_AXES or any(type(size) is not int or size < 0 for size in shape)
    if wrong or math.prod(shape) != values.numel():
        raise ValueError(f'an array of the shape {shape} has {values.numel()} numbers')
    return values.reshape(shape)


def _joined(chunks: dict[str, Any]) -> torch.Tensor:
    """An array of more than a gigabyte is in several; flax's lists are maps from '0' on."""
    shape, parts = (
        [listed[str(i)] for i in range(len(listed))]
        for listed in (chunks['shape'], chunks['chunks'])
    )
    return _shaped(torch.cat(parts), shape)


def _named(tree: Any, name: str, parts: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """All arrays of a tree by the names on the way to them."""
    if isinstance(tree, dict) and _CHUNKED in tree:
        tree = _joined(tree)
    if torch.is_tensor(tree):
        yield name, tree
    elif isinstance(tree, dict) and parts < _MAX_PARTS and all(type(key) is str for key in tree):
        for key, part in tree.items():
            yield from _named(part, f'{name}/{key}' if parts else f'{name}{key}', parts + 1)
    else:
        raise ValueError('its weights are no arrays by name')
