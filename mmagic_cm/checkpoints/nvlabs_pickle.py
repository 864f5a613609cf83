"""Unpickling whole objects of NVlabs' code without that code: a closed list of names, each inert.

Such a file is a pickle of objects that carry their own source. Here nothing of it runs: an
unpickler of our own knows the few operations and names that such files have, and answers each name
with something inert. What is left are dictionaries, numbers, texts and tensors.
"""

import math
import mmap
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .pickles import load_bytes

# All operations that such files have. Of the others some reserve memory by a number in the file.
_OPERATIONS = (
    'PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 '
    'BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_DICT '
    'EMPTY_LIST EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS '
    'BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD'
)
_DTYPE = re.compile(r'[fiub][1248]')


class Held:
    """An object of the file: what its class is called, and what it holds.

    Attributes:
        name: Of its class; empty where it does not matter.
        state: Its attributes, where it has any.
        source: The text of the module that its class is in, to be read; never run.
    """

    def __init__(self, name: str = '', state: Any = None, source: Any = '') -> None:
        self.name = name
        self.state = state if isinstance(state, dict) else {}
        self.source = source if isinstance(source, str) else ''


def _object(meta: Any) -> Held:
    if not isinstance(meta, dict):
        raise pickle.UnpicklingError('an object is described by something else than a dictionary')
    return Held(str(meta.get('class_name')), meta.get('state'), meta.get('module_src'))


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


def load_objects(path: Path) -> Any:
    """What such a file holds: each object as a :class:`Held`.

    Raises:
        pickle.UnpicklingError: It names or does anything that such files do not.
        Exception: A damaged file can break the reader anywhere.
    """
    try:
        # Mapped: reading a length that the file does not have gives what there is.
        with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Unpickler(data).load()
    except KeyError as error:  # an operation that is not listed, or a memo that is not there
        raise pickle.UnpicklingError(f'the operation {error} is not allowed') from error
