"""What judging needs: a cache of its own, and figures by another way."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.metrics import Features, PixelFeatures, compute_scores, extract


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))


def pixels(images: np.ndarray) -> Features:
    return extract([torch.from_numpy(images).permute(0, 3, 1, 2)], PixelFeatures())


@pytest.fixture(scope='session')
def figures_of() -> Callable[..., dict]:
    """The figures of images beside the training digits, by their pixels."""
    real = pixels(load_split('train')[0])

    def figures(images: np.ndarray, metrics: tuple[str, ...], rel: float = 1e-6) -> dict:
        found = compute_scores(pixels(images), real, metrics)
        return {name: pytest.approx(value, rel=rel) for name, value in found.items()}

    return figures
