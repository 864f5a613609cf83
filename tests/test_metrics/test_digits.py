"""The judge of digits on digits that are known."""

import numpy as np
import pytest

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.metrics import DigitsJudge


@pytest.fixture(scope='module')
def judge():
    return DigitsJudge()


def test_real_test_digits(judge):
    verdict = judge.judge(*load_split('test'))
    # The figures of scikit-learn's classifier and digits, measured apart from this package.
    assert verdict.accuracy == pytest.approx(0.965, abs=1e-3)
    assert 1.045 < verdict.frechet_distance < 1.065
    assert verdict == judge.real
    assert verdict.as_dict().keys() == {'accuracy', 'frechet_distance', 'near_copies'}
    # By their definition few real digits are near copies.
    assert verdict.near_copies < 0.1
    images, labels = load_split('test')
    wrong = judge.judge(images, (labels + 1) % 10)
    assert wrong.accuracy < 0.02
    assert wrong.frechet_distance == verdict.frechet_distance


def test_class_means_read_well_and_lie_far_off(judge):
    """Why accuracy alone says nothing."""
    images, labels = load_split('train')
    means = np.stack([np.rint(images[labels == k].mean(0)) for k in range(10)]).astype(np.uint8)
    verdict = judge.judge(means.repeat(140, axis=0), np.arange(10).repeat(140))
    assert verdict.accuracy == 1.0
    assert verdict.frechet_distance == pytest.approx(6.9, abs=0.05)


def test_training_digits_are_copies(judge):
    images, labels = load_split('train')
    verdict = judge.judge(images, labels)
    assert verdict.near_copies == 1.0
    assert verdict.frechet_distance == pytest.approx(0, abs=1e-6)
    # One grey level of noise does not hide a copy.
    noise = np.random.default_rng(0).integers(-1, 2, images.shape)
    noisy = (images + noise).clip(0, 255).astype(np.uint8)
    assert judge.judge(noisy, labels).near_copies == 1.0


def test_noise_is_no_digit(judge):
    images = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 1), dtype=np.uint8)
    verdict = judge.judge(images, np.arange(500) % 10)
    assert verdict.accuracy < 0.3
    assert verdict.frechet_distance > 10
    assert verdict.near_copies == 0
