"""The handwritten digits that ship with scikit-learn: real data without a download."""

from typing import ClassVar

import numpy as np
from sklearn.datasets import load_digits

from ..errors import InputError
from ..registry import DATASETS
from .base import ImageDataset

# The first ones in the order of the file; the rest is for testing.
NUM_TRAINING = 1400


@DATASETS.register_module()
class DigitsDataset(ImageDataset):
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels, ten classes.

    Args:
        split: 'train' (the first 1,400) or 'test' (the other 397).
        **settings: Of MMEngine's ``BaseDataset``, the ``pipeline`` above all.
    """

    METAINFO: ClassVar[dict] = dict(classes=tuple('0123456789'))

    def __init__(self, split: str = 'train', **settings) -> None:
        if split not in {'train', 'test'}:
            raise InputError(f"split must be 'train' or 'test', not {split!r}.")
        self.split = split
        super().__init__(**settings)

    def load_data_list(self) -> list[dict]:
        """MMEngine's entry: uint8 (8, 8, 1) images and their labels."""
        images, labels = load_split(self.split)
        return [
            dict(img=image, gt_label=int(label))
            for image, label in zip(images, labels, strict=True)
        ]


def load_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 8, 8, 1) images, the 16 steps of grey spread over 0..255, and int64 (N,) labels."""
    digits = load_digits()
    part = slice(None, NUM_TRAINING) if split == 'train' else slice(NUM_TRAINING, None)
    images = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)
    return images[..., None], digits.target[part].astype(np.int64)
