"""Sets of pictures, wherever they are: an npz, a folder, an LMDB, a data set of a config."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..datasets.base import ImageDataset
from ..datasets.image_folder import ImageFolder
from ..datasets.npz import NpzImages
from ..datasets.transforms import CenterCrop, LoadImage, PackImage, RandomFlip
from ..errors import InputError
from ..io.digests import text_digest
from ..registry import DATASETS, TRANSFORMS, resolve

ADM_CROP = 'central square, resized to {0} x {0} (as ADM: halved by box, then bicubic)'
ADM_ADDRESS = 'https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches'
# ADM's statistics of the paper's data sets: where they are below that address.
ADM_FILES = {
    'VIRTUAL_imagenet64_labeled.npz': 'imagenet/64',
    'VIRTUAL_lsun_bedroom256.npz': 'lsun/bedroom',
    'VIRTUAL_lsun_cat256.npz': 'lsun/cat',
}
# Pictures from which on they are decoded by several processes.
_MANY = 2000
_LOOKED_AT = 100


class ImageSource:
    """Pictures of one size, in a fixed order: a data set whose entries have ``inputs``.

    Args:
        dataset: Of uint8 (C, H, W); its transforms draw nothing at random.
        name: What to call it.
        settings: What made it, for the digest; and the files below ``root`` are.
        crop: Of the pictures, in words; None: they are as stored.
        root: A folder or file.

    Attributes:
        name: As given.
        crop: How they were brought to their size, in words.
        size: (height, width) in pixels.

    Raises:
        InputError: It is empty, or its entries are others.
    """

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        settings: Mapping[str, Any],
        crop: str | None = None,
        root: str | None = None,
    ) -> None:
        self.name = name
        self._dataset = dataset
        self._settings = settings
        self._root = root
        if not len(dataset):
            raise InputError(f'{name} holds no pictures.')
        first = dataset[0].get('inputs')
        if not torch.is_tensor(first) or first.dtype != torch.uint8 or first.ndim != 3:
            raise InputError(
                f'{name}: an entry must have inputs, a uint8 tensor (C, H, W): end the pipeline '
                f'with PackImage.'
            )
        self.size = tuple(first.shape[1:])
        self.crop = crop or f'none: {self.size[1]} x {self.size[0]} as stored'

    def __len__(self) -> int:
        return len(self._dataset)

    def digest(self) -> str:
        """Changes when the pictures do."""
        files = [*_files(self._root)] if self._root else []
        return text_digest(
            json.dumps([self._settings, len(self), files], sort_keys=True, default=str)
        )

    def batches(self, batch_size: int) -> Iterator[torch.Tensor]:
        """All pictures, uint8 (n, C, H, W), n up to ``batch_size``.

        Raises:
            InputError: One cannot be read, or is of another size.
        """
        several = len(self) >= _MANY and not isinstance(self._dataset, NpzImages)
        workers = min(8, os.cpu_count() or 1) if several else 0
        loader = DataLoader(self._dataset, batch_size, num_workers=workers, collate_fn=_inputs)
        done, (height, width) = 0, self.size
        for images in loader:
            for index, image in enumerate(images, done):
                if tuple(image.shape[1:]) != self.size:
                    raise InputError(
                        f'{self.name} holds pictures of different sizes, {width} x {height} and '
                        f'(number {index}) {image.shape[2]} x {image.shape[1]} pixels: choose a '
                        f'crop (--crop SIZE).'
                    )
            yield torch.stack(images)
            done += len(images)


def _inputs(entries: list[dict]) -> list[torch.Tensor]:
    return [entry['inputs'] for entry in entries]


def _files(root: str) -> Iterator[str]:
    """Name, size and time of change of a file, of all in a folder, or of a data base."""
    if os.path.isfile(os.path.join(root, 'data.mdb')):
        root = os.path.join(root, 'data.mdb')  # beside it is what readers write
    paths = [root]
    if os.path.isdir(root):
        walked = os.walk(root, followlinks=True)
        paths = sorted(os.path.join(folder, name) for folder, _, files in walked for name in files)
    for path in paths:
        state = os.stat(path)
        yield f'{os.path.relpath(path, root)} {state.st_size} {state.st_mtime_ns}'


def open_images(source: str | Path | Mapping[str, Any], crop: int | None = None) -> ImageSource:
    """The pictures that a user names.

    Args:
        source: An npz, a folder of pictures, the folder of an LMDB, or ``dict(dataset=CONFIG)``
            with the config of a data set. Random flips of its pipeline are left out; without a
            pipeline it gets the usual one.
        crop: Side in pixels to which pictures of a folder or an LMDB, or of a data set without a
            pipeline, are brought by ADM's central crop; None: they are taken as they are.

    Raises:
        InputError: There is nothing to read there, or an npz of another size than ``crop``.
    """
    if isinstance(source, Mapping):
        return _of_config(source, crop)
    path = Path(source).expanduser()
    check_source(path)
    if path.is_dir():
        kind = 'LMDBImages' if (path / 'data.mdb').is_file() else 'ImageFolder'
        settings = dict(type=kind, data_root=str(path), labels=None)
        return _open_dataset(settings, crop, str(source))
    dataset = NpzImages(path)
    images = ImageSource(dataset, str(source), dict(npz=dataset.digest))
    if crop is not None and images.size != (crop, crop):
        raise InputError(
            f'{path} holds pictures of {images.size[1]} x {images.size[0]} pixels, not {crop} x '
            f'{crop}: only the pictures of folders and LMDBs are cropped.'
        )
    return images


def check_source(source: str | Path | Mapping[str, Any] | None) -> None:
    """Refuse what is not there; reads nothing.

    Raises:
        InputError: Says what is missing, and where ADM's files come from.
    """
    if source is None or isinstance(source, Mapping):
        return
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == '.npz'):
        return
    if path.exists():
        raise InputError(f'{path} is neither an .npz nor a folder of pictures nor an LMDB.')
    if path.name in ADM_FILES:
        raise InputError(
            f'There is no {path}: download {ADM_ADDRESS}/{ADM_FILES[path.name]}/{path.name} and '
            f'put it there, or name another reference.'
        )
    raise InputError(
        f'There is no {path}: name an .npz of statistics or images, a folder of pictures or an '
        f'LMDB.'
    )


def _of_config(source: Mapping[str, Any], crop: int | None) -> ImageSource:
    settings = source.get('dataset')
    if set(source) != {'dataset'} or not isinstance(settings, Mapping) or 'type' not in settings:
        raise InputError(
            f'A data set is named by dict(dataset=dict(type=...)), not by {dict(source)}.'
        )
    settings = {key: value for key, value in settings.items() if key != '_scope_'}
    name, root, split = (settings.get(key) for key in ('type', 'data_root', 'split'))
    where = f' {root}' if root else f' ({split})' if split else ''
    return _open_dataset(settings, crop, f'{name}{where}')


def _open_dataset(settings: dict[str, Any], crop: int | None, name: str) -> ImageSource:
    pipeline = settings.get('pipeline')
    if pipeline is not None:
        pipeline = [resolve(TRANSFORMS, transform) for transform in pipeline]
        pipeline = [transform for transform in pipeline if not isinstance(transform, RandomFlip)]
    else:
        pipeline = _usual_pipeline(settings, crop)
    dataset = DATASETS.build({**settings, 'pipeline': pipeline})
    sides = [step.size for step in pipeline if isinstance(step, CenterCrop)]
    recorded = {**settings, 'pipeline': [f'{type(s).__name__} {vars(s)}' for s in pipeline]}
    words = ADM_CROP.format(sides[-1]) if sides else None
    return ImageSource(dataset, name, recorded, words, settings.get('data_root'))


def _usual_pipeline(settings: Mapping[str, Any], crop: int | None) -> list:
    """Decode, crop and pack pictures of files; only pack those that are in memory."""
    kind = DATASETS.get(settings['type'])
    if not (isinstance(kind, type) and issubclass(kind, ImageFolder)):
        return [PackImage()]
    color = 'gray' if _is_gray(DATASETS.build({**settings, 'pipeline': []})) else 'rgb'
    cropping = [] if crop is None else [CenterCrop(crop, enlarge=True)]
    return [LoadImage(color), *cropping, PackImage()]


def _is_gray(dataset: ImageDataset) -> bool:
    """Whether all of some pictures, spread over the set, have one channel."""
    step = -(-len(dataset) // _LOOKED_AT)
    load = LoadImage()
    for index in range(0, len(dataset), step):
        image = load(dataset.get_data_info(index))['img']
        if (image != image[..., :1]).any():
            return False
    return True
