"""CIFAR-10, from its binary version."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.files import existing_file
from ..registry import DATASETS
from .base import ImageDataset

FILES = dict(train=[f'data_batch_{i}.bin' for i in range(1, 6)], test=['test_batch.bin'])
RECORDS = 10_000  # a file; each is a label and 32 x 32 pixels of red, then green, then blue
RECORD_BYTES = 1 + 3 * 32 * 32
NUM_CLASSES = 10


@DATASETS.register_module()
class CIFAR10(ImageDataset):
    """60,000 colour images of 32 x 32 pixels, ten classes; held in memory.

    Args:
        data_root: The folder ``cifar-10-batches-bin`` of the binary version.
        split: 'train' (50,000) or 'test' (10,000).
        **settings: Of :class:`ImageDataset` and MMEngine's ``BaseDataset``.

    Raises:
        InputError: A file is missing, or not as long as it must be.
    """

    def __init__(self, data_root: str | None = None, split: str = 'train', **settings) -> None:
        if split not in FILES:
            raise InputError(f"split must be 'train' or 'test', not {split!r}.")
        if not data_root:
            raise InputError('CIFAR10 needs data_root, the folder cifar-10-batches-bin.')
        self.split = split
        super().__init__(data_root=str(data_root), **settings)

    def load_data_list(self) -> list[dict]:
        """MMEngine's entry: uint8 (32, 32, 3) images and their labels."""
        root = Path(self.data_root)
        self._metainfo.setdefault('classes', read_class_names(root / 'batches.meta.txt'))
        return [
            dict(img=image, gt_label=int(label))
            for name in FILES[self.split]
            for image, label in zip(*read_records(root / name), strict=True)
        ]


def read_class_names(path: Path) -> tuple[str, ...]:
    """The ten names of ``batches.meta.txt``, one a line."""
    names = tuple(existing_file(path, 'file of CIFAR-10').read_text().split())
    if len(names) != NUM_CLASSES:
        raise InputError(f'{path} names {len(names)} classes, and must name {NUM_CLASSES}.')
    return names


def read_records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 32, 32, 3) images and uint8 (N,) labels of one file."""
    size, expected = existing_file(path, 'file of CIFAR-10').stat().st_size, RECORDS * RECORD_BYTES
    if size != expected:
        raise InputError(
            f'{path} has {size:,} bytes and must have {expected:,}: download and unpack the '
            f'binary version of CIFAR-10 again.'
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    labels, pixels = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    if labels.max() >= NUM_CLASSES:
        raise InputError(f'{path} holds label {labels.max()}: it is no file of CIFAR-10.')
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels
