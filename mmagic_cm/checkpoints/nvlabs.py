"""Checkpoints as NVlabs' EDM and its descendant ECT pickle them, read without their code.

Such a file is a pickle of whole objects that carry their own source. Here nothing of it runs: an
unpickler of our own knows the few operations and names that such files have, and answers each name
with something inert. What is left are dictionaries, numbers, texts and tensors.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .layouts import NETWORK
from .pickles import load_bytes

# All operations that such files have. Of the others some reserve memory by a number in the file.
_OPERATIONS = (
    'PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 '
    'BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_DICT '
    'EMPTY_LIST EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS '
    'BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD'
)
_DTYPE = re.compile(r'[fiub][1248]')
_PARTS = ('_parameters', '_buffers', '_modules')


class Held:
    """An object of the file: what its class is called, and what it holds.

    Attributes:
        name: Of its class; empty where it does not matter.
        state: Its attributes, where it has any.
    """

    def __init__(self, name: str = '', state: Any = None) -> None:
        self.name = name
        self.state = state if isinstance(state, dict) else {}


def _object(meta: Any) -> Held:
    if not isinstance(meta, dict):
        raise pickle.UnpicklingError('an object is described by something else than a dictionary')
    return Held(str(meta.get('class_name')), meta.get('state'))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """A tensor in a storage of the file, no larger than that."""
    numbers = [offset, *size, *stride]
    if not torch.is_tensor(storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError('a tensor is made of something else than a storage and sizes')
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError('a tensor is larger than its storage')
    return storage.as_strided(size, stride, offset)


def _storage(data: Any) -> torch.Tensor:
    """All values of a storage."""
    storage = load_bytes(data) if isinstance(data, bytes) else None
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError('a storage is none')
    values = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
    if values.nbytes > len(data):
        raise pickle.UnpicklingError('a storage is larger than its bytes')
    return values


def _number(kind: Any, data: Any) -> float:
    if not isinstance(kind, Held) or not _DTYPE.fullmatch(kind.name) or not isinstance(data, bytes):
        raise pickle.UnpicklingError('a number of numpy is made of something else')
    [value] = np.frombuffer(data, kind.name)
    return value.item()


# The names, and what answers them. Those that are called with what the file says check it.
_CALLS: dict[str, Callable] = {
    'torch_utils.persistence _reconstruct_persistent_obj': _object,
    'collections OrderedDict': lambda: OrderedDict(),
    'torch._utils _rebuild_tensor_v2': _tensor,
    'torch._utils _rebuild_parameter': lambda data, *_: data,
    'torch.storage _load_from_bytes': _storage,
    'numpy.core.multiarray scalar': _number,
    'numpy._core.multiarray scalar': _number,
    'numpy dtype': lambda kind, *_: Held(str(kind)),
    # Of ECT's loss, which holds a method of itself: nobody asks for it.
    'builtins getattr': lambda *_: Held(),
    'torch.nn.modules.container ModuleDict': lambda *_: Held(),
    'torch.nn.modules.container ModuleList': lambda *_: Held(),
    'dnnlib.util EasyDict': lambda *_: {},
}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler (not that in C), with these operations and names alone."""

    dispatch: ClassVar[dict] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPERATIONS.split()
    }

    def find_class(self, module: str, name: str) -> Callable:
        """What answers a name; refuses all that is not listed."""
        if f'{module} {name}' not in _CALLS:
            raise pickle.UnpicklingError(f'{module}.{name} is not allowed')
        return _CALLS[f'{module} {name}']

    def _call(self) -> None:
        """REDUCE and NEWOBJ: one of the listed names with a tuple."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not any(function is known for known in _CALLS.values()):
            raise pickle.UnpicklingError('something is called that is not listed')
        self.append(function(*arguments))

    def _build(self) -> None:
        """BUILD: give an object its attributes."""
        state = self.stack.pop()
        held = self.stack[-1]
        if isinstance(held, Held) and isinstance(state, dict):
            held.state = state
        elif not isinstance(held, Held | OrderedDict):
            raise pickle.UnpicklingError('something is filled that is no object')

    def _set(self, items: list) -> None:
        """SETITEM and SETITEMS: by text and numbers, whose hashes take no time."""
        target = self.stack[-1]
        if not isinstance(target, dict) or not all(type(k) in (str, int) for k in items[::2]):
            raise pickle.UnpicklingError('a dictionary has other keys than text and numbers')
        target.update(zip(items[::2], items[1::2], strict=True))

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_many(self) -> None:
        self._set(self.pop_mark())

    def _append(self, items: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise pickle.UnpicklingError('something is appended to what is no list')
        self.stack[-1].extend(items)

    dispatch |= {
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_many,
        pickle.APPEND[0]: lambda self: self._append([self.stack.pop()]),
        pickle.APPENDS[0]: lambda self: self._append(self.pop_mark()),
    }


def is_nvlabs(path: Path) -> bool:
    """Whether a file is a pickle of objects, by its beginning."""
    with open(path, 'rb') as file:
        beginning = file.read(4096)
    return beginning[:1] == pickle.PROTO and b'torch_utils.persistence' in beginning


def read_nvlabs(path: Path) -> dict[str, Any]:
    """Read the averaged network of such a file.

    Args:
        path: The file.

    Returns:
        ``state_dict`` by our names, and ``meta`` with the config that the file amounts to.

    Raises:
        pickle.UnpicklingError: It holds, names or does anything that such files do not.
        Exception: A damaged file can break the reader anywhere.
    """
    try:
        content = _Unpickler(io.BytesIO(path.read_bytes())).load()
    except KeyError as error:  # an operation that is not listed, or a memo that is not there
        raise pickle.UnpicklingError(f'the operation {error} is not allowed') from error
    denoiser = content.get('ema') if isinstance(content, dict) else None
    if not isinstance(denoiser, Held):
        raise pickle.UnpicklingError("it has no averaged network, 'ema'")
    network = denoiser.state['_modules']['model']
    kind = _KINDS.get(network.name)
    if kind is None:
        raise pickle.UnpicklingError(f'its network is a {network.name}, which is not known')
    weights = {name: tensor for name, tensor in tensors_of(network) if torch.is_tensor(tensor)}
    settings, weights = kind(network.state['_init_kwargs'], weights)
    config = dict(type='ConsistencyModel', denoiser=_scalings(denoiser) | dict(network=settings))
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
    """Of ECT the boundary is at its ``sigma_min``, of EDM at 0."""
    data = float(denoiser.state['sigma_data'])
    if denoiser.name == 'ECMPrecond':
        least = float(denoiser.state['sigma_min'])
        scalings = dict(parameterization='consistency', sigma_min=least)
    elif denoiser.name == 'EDMPrecond':
        scalings = dict(parameterization='edm')
    else:
        raise pickle.UnpicklingError(f'its scalings are those of {denoiser.name}, not known here')
    return dict(type='KarrasDenoiser', c_noise='edm', sigma_data=data, **scalings)


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
