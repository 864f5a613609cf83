"""Files of torch.save, opened without trusting them: they run nothing, and promise nothing."""

import io
import pickle
import pickletools
import re
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy.core.multiarray import scalar

# torch's list of allowed names belongs to the process: a second reader would end with the first.
_LOCK = threading.Lock()
# All that a checkpoint may name. torch itself allows much more, with which a few bytes take
# gigabytes: bytearray(12 << 30), torch.Tensor(10**10).
_NAMES = re.compile(
    r'collections (OrderedDict|Counter)|(builtins|__builtin__) getattr|_codecs encode|'
    r'torch (\w+Storage|b?float\w*|u?int\w*|double|half|long|bool)|'
    r'torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter Parameter|'
    r'mmengine\.logging\.history_buffer HistoryBuffer|'
    r'numpy (ndarray|dtype)|numpy\._?core\.multiarray (_reconstruct|scalar)'
)
# What these two may be called with: given a tensor, they would walk along all that it promises.
# A list of pairs is Python 2's.
_ARGUMENTS = {
    'collections OrderedDict': ('EMPTY_TUPLE', 'TUPLE1 of EMPTY_LIST'),
    'collections Counter': ('TUPLE1 of EMPTY_DICT',),
}
# Parts of a tuple, and of those in it. As a key, ((a, a), (a, a)) is walked along: 60 such pairs
# within each other, in 300 bytes, would take years.
_MAX_PARTS = 10_000
_PAIRS = {'EMPTY_LIST', 'LIST', 'TUPLE2'}
_ZIP = b'PK\x03\x04'  # by which torch, too, tells its two kinds of files
# What the first pickle of the older kind is: a number.
_LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
_LEGACY_PICKLES = 5  # of the older kind, one after another: the fourth is the content


class _History:
    """Stands for HistoryBuffer, which would copy what it is given; its content follows."""

    def __new__(cls) -> HistoryBuffer:
        return HistoryBuffer.__new__(HistoryBuffer)


def _statistics_method(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, by which a pickled HistoryBuffer names its four own methods."""
    if owner is not _History or name not in {'min', 'max', 'mean', 'current'}:
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')
    return getattr(HistoryBuffer, name)


def _empty_array(_cls: Any, _shape: Any, _kind: Any) -> np.ndarray:
    """Stands for numpy's, which would make an array of any shape; its content follows."""
    return np.ndarray(0)


def _scalar(kind: np.dtype, data: bytes) -> Any:
    """Stands for numpy's, which makes up the bytes where there are none."""
    return scalar(kind, data)


_ALLOWED = [
    (_History, f'{HistoryBuffer.__module__}.HistoryBuffer'),
    (_statistics_method, 'builtins.getattr'),
    (_empty_array, 'numpy.ndarray'),
    (_empty_array, 'numpy.core.multiarray._reconstruct'),
    (_empty_array, 'numpy._core.multiarray._reconstruct'),
    (_scalar, 'numpy.core.multiarray.scalar'),
    (_scalar, 'numpy._core.multiarray.scalar'),
    # To be filled with content. Names have a dot: no file names these.
    (HistoryBuffer, 'history'),
    (np.ndarray, 'array'),
    np.dtype,
    *{type(np.dtype(kind)) for kind in '?' + np.typecodes['AllInteger'] + np.typecodes['AllFloat']},
]


def is_saved(beginning: bytes) -> bool:
    """Whether torch.save has written a file that begins so."""
    if beginning[:4] == _ZIP:  # whose first part it is: in those of numpy it is an array
        length = int.from_bytes(beginning[26:28], 'little')
        return beginning[30 : 30 + length].endswith(b'/data.pkl')
    return beginning.startswith(_LEGACY)


def load_pickled(path: Path, map_location: Any, mmap: bool) -> Any:
    """What torch.save has written.

    Args:
        path: A file.
        map_location: As of :func:`torch.load`. For 'meta' only names are read, and so checked.
        mmap: Map the file into memory where it is a zip, as torch writes them since 1.6.

    Raises:
        pickle.UnpicklingError: It holds more than tensors, numbers, text and MMEngine's log.
        Exception: A damaged file can break the reader anywhere.
    """
    with open(path, 'rb') as file:
        size, is_zip = _check(file, names_only=str(map_location) == 'meta')
    with _LOCK, torch.serialization.safe_globals(_ALLOWED):
        content = torch.load(path, map_location, weights_only=True, mmap=mmap and is_zip)
    promised = _bytes_of(content)
    if promised > 4 * size:
        raise pickle.UnpicklingError(
            f'its tensors would take {promised:,} bytes, and it has {size:,}'
        )
    return content


def load_bytes(data: bytes) -> Any:
    """What torch.save has written, from memory; raises as :func:`load_pickled`."""
    _check(io.BufferedReader(io.BytesIO(data)))
    with _LOCK, torch.serialization.safe_globals(_ALLOWED):
        return torch.load(io.BytesIO(data), 'cpu', weights_only=True)


def _check(file: io.BufferedReader, names_only: bool = False) -> tuple[int, bool]:
    """Refuse what names too much or is damaged; the size, and whether it is a zip."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    is_zip = file.read(4) == _ZIP
    file.seek(0)
    if is_zip:
        _check_zip(file, size, names_only)
    else:
        for _ in range(_LEGACY_PICKLES):
            if file.peek(1):
                _check_pickle(file)
    return size, is_zip


def _check_zip(file: io.BufferedReader, size: int, names_only: bool) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise pickle.UnpicklingError('its parts would be larger than the file')
        if not any(member.CRC for member in members):  # torch can be told to write none
            for member in members:
                member.CRC = None
        for member in members:
            if member.filename.lower().endswith('/data.pkl'):  # torch minds no case
                _check_pickle(io.BytesIO(archive.read(member)))
        # 0.3 s a gigabyte. torch does not compare checksums.
        damaged = None if names_only else archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f'its part {damaged} is damaged')


def _check_pickle(file: io.BufferedIOBase) -> None:
    """Refuse one pickle, up to whose end the file is read, for what it names, calls or repeats."""
    # The reader's stack; for each thing, what made it and its number of parts, changed in place.
    stack, marks, memo = [], [], {}
    for code, value, _ in pickletools.genops(file):
        name, taken = code.name, code.stack_before
        if name == 'MARK':
            marks.append(len(stack))
            continue
        if name.endswith('PUT'):
            memo[value] = stack[-1]
            continue
        if pickletools.markobject in taken:
            start = marks.pop() - taken.index(pickletools.markobject)
        else:
            start = len(stack) - len(taken)
        made, items = [name, 1], stack[start:]
        if name.endswith('GET'):
            made = memo[value]
        elif name == 'GLOBAL':
            made = [value, 1]
            if not _NAMES.fullmatch(value):
                raise pickle.UnpicklingError(f'{value.replace(" ", ".")} is not allowed')
        elif name.startswith('TUPLE'):
            made[1] += sum(parts for _, parts in items)
            if name == 'TUPLE1' and items[0][0].startswith('EMPTY'):
                made[0] = f'TUPLE1 of {items[0][0]}'
        elif name == 'REDUCE':
            (function, _), (arguments, _) = items
            if arguments not in _ARGUMENTS.get(function, [arguments]):
                raise pickle.UnpicklingError(f'{function.replace(" ", ".")} of other things')
        elif name in {'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'BUILD'}:
            made = items[0]
            if made[0] == 'EMPTY_LIST' and {kind for kind, _ in items[1:]} - _PAIRS:
                made[0] = 'LIST'
        if made[1] > _MAX_PARTS:
            raise pickle.UnpicklingError('it has tuples of more parts than the file')
        stack[start:] = [made] * len(code.stack_after)


def _bytes_of(content: Any) -> int:
    """What all tensors would take, each by itself: of those that share memory, or repeat it."""
    total, todo, seen = 0, [content], set()
    while todo:
        value = todo.pop()
        if torch.is_tensor(value):
            total += value.numel() * value.element_size()
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            todo += value.values() if isinstance(value, Mapping) else value
    return total
