"""Pictures in an LMDB: LSUN as it is distributed, and what our converters write."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import lmdb
import numpy as np
from mmengine.dist import is_main_process
from tqdm import tqdm

from ..errors import InputError, doing
from ..io.files import in_place_of
from ..io.images import BadImageError
from ..registry import DATASETS
from .image_folder import ImageFolder, class_names

# Of each folder: the process that opened it, and what it opened.
_ENVIRONMENTS: dict[str, tuple[int, lmdb.Environment]] = {}


def open_lmdb(folder: str | Path) -> lmdb.Environment:
    """The data base in a folder for reading, opened once a process and kept open.

    Raises:
        InputError: It is not there, or is cut short.
        lmdb.Error: It is something else.
    """
    key = os.path.realpath(folder)
    pid, environment = _ENVIRONMENTS.get(key, (None, None))
    if pid == os.getpid():
        return environment
    if environment is not None:
        # Of the process that forked this one; LMDB forbids to use it here, or to open another.
        environment.close()
    if not os.path.isfile(os.path.join(folder, 'data.mdb')):
        raise InputError(
            f'There is no {os.path.join(folder, "data.mdb")}: data_root must be the folder of an '
            f'LMDB (`python tools/dataset_converters/lsun.py --download bedroom` fetches one).'
        )
    with doing(f'opening the LMDB in {folder}'):
        # No lock file: it serves writers, and the folder may be read-only.
        environment = lmdb.open(
            str(folder), readonly=True, lock=False, readahead=False, meminit=False
        )
    check_whole(environment)
    _ENVIRONMENTS[key] = os.getpid(), environment
    return environment


def check_whole(environment: lmdb.Environment) -> None:
    """Refuse a data base that is cut short: to read what is missing would kill the process.

    Raises:
        InputError: The file is shorter than the pages that it says it has.
    """
    path = os.path.join(environment.path(), 'data.mdb')
    size = os.path.getsize(path)
    expected = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if size < expected:
        environment.close()
        raise InputError(
            f'{path} is cut short: it has {size:,} bytes of {expected:,}. Copy or fetch it again.'
        )


def read_value(folder: str | Path, key: bytes) -> bytes:
    """What a data base holds for a key; nothing where it does not know it.

    Raises:
        BadImageError: It is damaged there.
    """
    try:
        with open_lmdb(folder).begin() as transaction:
            return transaction.get(key, b'')
    except lmdb.Error as error:
        raise BadImageError(
            f'{folder}: {key.decode()} cannot be read, the LMDB is damaged: {error}.'
        ) from error


def close_lmdb(folder: str | Path) -> None:
    """Close what :func:`open_lmdb` opened in this process: LMDB has a folder open only once."""
    _, environment = _ENVIRONMENTS.pop(os.path.realpath(folder), (None, None))
    if environment is not None:
        environment.close()


def list_keys(folder: str | Path) -> np.ndarray:
    """All keys of a data base, sorted: bytes (N,), mapped from ``keys.npy`` beside it.

    To list LSUN's three million keys takes minutes, so they are written there the first time, if
    the folder can be written to.

    Raises:
        InputError: The data base is not there, is cut short, is empty, or a key is no text.
        lmdb.Error: It is damaged.
    """
    environment, path = open_lmdb(folder), Path(folder, 'keys.npy')
    with doing(f'listing the LMDB in {folder}'):
        if path.is_file():
            with contextlib.suppress(ValueError, OSError, EOFError):
                keys = np.load(path, mmap_mode='r', allow_pickle=False)
                if _are_keys_of(environment, keys):
                    return keys
        count = environment.stat()['entries']
        if not count:
            raise InputError(f'The LMDB in {folder} is empty.')
        with environment.begin() as transaction:
            listed = tqdm(
                transaction.cursor().iternext(keys=True, values=False),
                f'listing {folder}',
                count,
                unit='key',
                unit_scale=True,
                disable=not is_main_process() or count < 100_000,
            )
            keys = np.array([_text(key, folder) for key in listed])
    try:
        with in_place_of(path, shared=True) as fresh, open(fresh, 'wb') as file:
            np.save(file, keys)
    except OSError:
        return keys  # Read-only, or full: listing takes its time again next time.
    return np.load(path, mmap_mode='r', allow_pickle=False)


def _text(key: bytes, folder: str | Path) -> bytes:
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise InputError(f'The key {key!r} of the LMDB in {folder} is no text.') from error
    return key


def _are_keys_of(environment: lmdb.Environment, keys: np.ndarray) -> bool:
    """Whether a list is that of this data base, as far as its ends tell."""
    if keys.ndim != 1 or keys.dtype.kind != 'S' or len(keys) != environment.stat()['entries']:
        return False
    with environment.begin() as transaction, transaction.cursor() as cursor:
        ends = [cursor.key() for move in (cursor.first, cursor.last) if move()]
    return ends == [bytes(keys[0]), bytes(keys[-1])] if len(keys) else False


class KeyList:
    """A data list over an array of keys, which a million dicts would make a hundred times larger.

    Args:
        keys: bytes (N,).
        labels: int (N,), or None.
    """

    def __init__(self, keys: np.ndarray, labels: np.ndarray | None = None) -> None:
        self.keys = keys
        self.labels = labels

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int | slice) -> 'dict | KeyList':
        labels = None if self.labels is None else self.labels[index]
        if isinstance(index, slice):
            return KeyList(self.keys[index], labels)
        info = dict(key=bytes(self.keys[index]))
        return info if labels is None else info | dict(gt_label=int(labels))


@DATASETS.register_module()
class LMDBImages(ImageFolder):
    """The pictures (JPEG, PNG, WebP: whatever Pillow reads) of an LMDB, in the order of its keys.

    The data base is opened by each process that reads from it, when it first does.

    Args:
        data_root: The folder of the data base, with ``data.mdb`` in it.
        labels: 'folder': the part of the key before the first '/', as our converters write it;
            'auto': that, if all keys have it; 'name' or None as in :class:`ImageFolder`.
        **settings: Of :class:`ImageDataset` and MMEngine's ``BaseDataset``.

    Raises:
        InputError: There is no LMDB, it cannot be read or is empty, or keys without classes.
    """

    def __init__(
        self, data_root: str | None = None, labels: str | None = 'auto', **settings
    ) -> None:
        if settings.get('ann_file'):
            raise InputError(f'{type(self).__name__} takes no ann_file: classes are in its keys.')
        # MMEngine's serializing would copy each key into a pickled dict.
        super().__init__(data_root, labels, **{**settings, 'serialize_data': False})

    def load_data_list(self) -> KeyList:
        """MMEngine's entry: keys, and labels where there are classes."""
        keys = list_keys(self.data_root)
        if self.labels is None:
            return KeyList(keys)
        names = [key.decode() for key in keys.tolist()]
        labels = self._label_by_name(class_names(names, self.labels, self.data_root))
        return KeyList(keys, None if labels is None else np.array(labels))

    def get_data_info(self, idx: int) -> dict:
        """Of image ``idx``: ``img_bytes``, ``img_name`` and perhaps ``gt_label``."""
        info = super().get_data_info(idx)
        key = info.pop('key')
        info['img_bytes'] = read_value(self.data_root, key)
        info['img_name'] = f'{self.data_root}: {key.decode()}'
        return info

    def _get_unserialized_subset(self, indices: int | Iterable[int]) -> KeyList:
        if isinstance(indices, int):
            return self.data_list[:indices] if indices >= 0 else self.data_list[indices:]
        chosen, whole = np.asarray(indices), self.data_list
        return KeyList(whole.keys[chosen], None if whole.labels is None else whole.labels[chosen])


@DATASETS.register_module()
class LSUN(LMDBImages):
    """A category of LSUN, straight from the LMDB of its zip: JPEG or WebP by key, no classes.

    Args:
        data_root: Such as ``bedroom_train_lmdb``, or an LMDB written by our converter.
        labels: None, unless the keys have something to say, see :class:`LMDBImages`.
        **settings: Of :class:`ImageDataset` and MMEngine's ``BaseDataset``.
    """

    def __init__(self, data_root: str | None = None, labels: str | None = None, **settings) -> None:
        super().__init__(data_root, labels, **settings)
