"""Small data sets as files, and batches of them through PyTorch's loader."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS
from PIL import Image
from torch.utils.data import DataLoader

from mmagic_cm.datasets import ResumableSampler
from mmagic_cm.datasets.image_folder import is_image

LOAD = [dict(type='LoadImage'), dict(type='CenterCrop', size=8), dict(type='RandomFlip')]
PIPELINE = [*LOAD, dict(type='PackImage')]


def picture(seed: int = 0, width: int = 12, height: int = 9, channels: int = 3) -> np.ndarray:
    """Noise with a bright corner, uint8 (H, W, C)."""
    pixels = np.random.default_rng(seed).integers(0, 128, (height, width, channels))
    pixels[: height // 2, : width // 2] += 120
    return pixels.astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = 'png') -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, format={'jpg': 'JPEG'}.get(kind, kind))
    return buffer.getvalue()


@pytest.fixture(scope='session', name='picture')
def _picture() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture(scope='session', name='encode')
def _encode() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope='session')
def pipeline() -> list[dict]:
    return PIPELINE


@pytest.fixture
def folder(tmp_path) -> Callable[..., Path]:
    """Write pictures under the given relative paths; other bytes where they are given."""

    def make(*names: str, root: str = 'pictures', **others: bytes) -> Path:
        for seed, name in enumerate(names):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = path.suffix[1:].lower().replace('jpeg', 'jpg')
            kind = kind if is_image(name) else 'png'
            path.write_bytes(others.get(path.stem, encode(picture(seed), kind)))
        return tmp_path / root

    return make


@pytest.fixture
def database(tmp_path) -> Callable[..., Path]:
    """Write an LMDB as LSUN's: JPEG and WebP in turn, or what is given."""

    def make(
        count: int = 10, root: str = 'bedroom_train_lmdb', items: dict[str, bytes] | None = None
    ) -> Path:
        if items is None:
            kinds = itertools.cycle(['jpg', 'webp'])
            items = {
                f'{i * 7919 % 104729:040x}': encode(picture(i), next(kinds)) for i in range(count)
            }
        path = str(tmp_path / root)
        with lmdb.open(path, map_size=2**24) as base, base.begin(write=True) as transaction:
            for key, data in items.items():
                transaction.put(key.encode(), data)
        return tmp_path / root

    return make


@pytest.fixture(scope='session')
def batches() -> Callable[..., list[dict]]:
    """The first batches of four from a start, through so many workers."""

    def draw(dataset, count: int, start: int = 0, workers: int = 0) -> list[dict]:
        sampler = ResumableSampler(dataset, seed=3)
        sampler.start = start
        loader = DataLoader(
            dataset,
            batch_size=4,
            sampler=sampler,
            num_workers=workers,
            collate_fn=FUNCTIONS.get('default_collate'),
            multiprocessing_context='fork' if workers else None,
        )
        return [*itertools.islice(loader, count)]

    return draw


@pytest.fixture(scope='session')
def assert_exact(batches) -> Callable:
    """Batches are the same with 0, 1 and 3 workers, from any start, and differ from each other."""

    def check(dataset) -> None:
        whole = batches(dataset, 6)
        for start, workers in [(0, 1), (8, 0), (4, 3)]:
            again = batches(dataset, 6 - start // 4, start, workers)
            for one, other in zip(whole[start // 4 :], again, strict=True):
                assert one.keys() == other.keys()
                assert all(torch.equal(one[key], other[key]) for key in one)
        images = torch.cat([batch['inputs'] for batch in whole])
        assert len(images.unique(dim=0)) > 6

    return check
