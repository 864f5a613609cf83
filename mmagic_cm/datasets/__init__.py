"""Images to learn from, and which of them belong to which draw."""

from ..io.images import BadImageError
from .base import ImageDataset
from .cifar import CIFAR10
from .digits import DigitsDataset
from .image_folder import ImageFolder, ImageNet
from .lsun import LSUN, LMDBImages
from .sample_numbers import SampleNumbers
from .samplers import ResumableSampler
from .settings import fill_num_classes, merge_options
from .transforms import CenterCrop, LoadImage, PackImage, RandomFlip, collate

__all__ = [
    'CIFAR10',
    'LSUN',
    'BadImageError',
    'CenterCrop',
    'DigitsDataset',
    'ImageDataset',
    'ImageFolder',
    'ImageNet',
    'LMDBImages',
    'LoadImage',
    'PackImage',
    'RandomFlip',
    'ResumableSampler',
    'SampleNumbers',
    'collate',
    'fill_num_classes',
    'merge_options',
]
