"""Images to learn from, and which of them belong to which draw."""

from .base import ImageDataset
from .digits import DigitsDataset
from .samplers import ResumableSampler
from .transforms import PackImage, RandomFlip

__all__ = ['DigitsDataset', 'ImageDataset', 'PackImage', 'RandomFlip', 'ResumableSampler']
