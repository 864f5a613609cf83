"""Transforms of one image."""

import random

import numpy as np
import pytest
import torch

from mmagic_cm.datasets import PackImage, RandomFlip

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def flip(prob: float, seed: int = 0) -> np.ndarray:
    results = dict(img=IMAGE.copy(), rng=random.Random(seed))
    return RandomFlip(prob)(results)['img']


@pytest.mark.parametrize(('prob', 'expected'), [(0.0, IMAGE), (1.0, IMAGE[:, ::-1])])
def test_flip_mirrors_left_to_right(prob, expected):
    assert all(np.array_equal(flip(prob, seed), expected) for seed in range(20))


@pytest.mark.parametrize('prob', [0.5, 0.2])
def test_flip_as_often_as_asked(prob):
    flips = sum(not np.array_equal(flip(prob, seed), IMAGE) for seed in range(1000))
    assert flips / 1000 == pytest.approx(prob, abs=0.05)


def test_flip_draws_from_its_generator_alone():
    for seed in range(20):
        images = []
        for other in 0, 1:
            random.seed(other)
            np.random.seed(other)  # noqa: NPY002
            torch.manual_seed(other)
            images.append(flip(0.5, seed))
        assert np.array_equal(*images)


@pytest.mark.parametrize('image', [IMAGE, IMAGE[:, ::-1]])
def test_pack_puts_channels_first(image):
    packed = PackImage()(dict(img=image, gt_label=7))
    assert packed.keys() == {'inputs', 'labels'}
    assert packed['labels'] == 7
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].is_contiguous()
    assert np.array_equal(packed['inputs'].numpy(), image.transpose(2, 0, 1))


def test_pack_without_a_label():
    assert PackImage()(dict(img=IMAGE)).keys() == {'inputs'}
