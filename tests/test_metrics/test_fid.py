"""The Fréchet distance: closed forms, singular covariances, and torch-fidelity."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import Gaussian, GaussianAccumulator, frechet, frechet_distance
from mmagic_cm.metrics.arrays import BLOCK


def features(mean, covariance, count=200, seed=0):
    """A set whose mean and (unbiased) covariance are these, up to rounding."""
    mean, covariance = np.asarray(mean, float), np.atleast_2d(np.asarray(covariance, float))
    raw = np.random.default_rng(seed).standard_normal((count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw.T)))).T
    values, vectors = np.linalg.eigh(covariance)
    return mean + white @ (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def turned(angle, *variances):
    c, s = math.cos(angle), math.sin(angle)
    rotation = np.array([[c, -s], [s, c]])
    return rotation @ np.diag(variances) @ rotation.T


def test_covariances_that_commute():
    """|mu - mu'|^2 + sum (s - s')^2 over the common axes."""
    a = features([0, 1, 2], np.diag([1.0, 4.0, 9.0]))
    b = features([1, 1, 0], np.diag([4.0, 4.0, 1.0]), count=333, seed=1)
    expected = 1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('angle', [0.3, 0.8, math.pi / 2])
def test_covariances_that_do_not_commute(angle):
    """In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))."""
    first, second = turned(0.0, 9.0, 0.5), turned(angle, 4.0, 1.0)
    product = first @ second
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = 0.5**2 + np.trace(first) + np.trace(second) - 2 * root
    a, b = features([0, 0], first), features([0.5, 0], second, seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_many_dimensions_against_a_matrix_square_root():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 20))
    b = rng.standard_normal((200, 20)) @ rng.standard_normal((20, 20)) + 0.3
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    trace = np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * np.trace(root)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize('count', [10, 500])  # fewer samples than dimensions: a singular matrix
def test_identical_sets_are_at_no_distance(dtype, count):
    a = (np.random.default_rng(0).random((count, 64)) * 255).astype(dtype)
    size = np.trace(np.cov(a.T.astype(float)))
    assert frechet_distance(a, a.copy()) == pytest.approx(0, abs=1e-6 * size)
    # float64 within, whatever came in: a shift is seen exactly.
    assert frechet_distance(a, a.astype(float) + 1) == pytest.approx(64, abs=1e-6 * size)


def test_a_single_repeated_image():
    """A point has no spread: what remains is the shift and the other's variance."""
    a = np.tile([[1.0, 2.0]], (50, 1))
    b = features([1, 0], np.diag([2.0, 3.0]))
    assert frechet_distance(a, b) == pytest.approx(4 + 5)


def fidelity(a, b):
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    return fid_statistics_to_metric(*statistics, verbose=False)['frechet_inception_distance']


def test_torch_fidelity_says_the_same():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 64)) @ rng.standard_normal((64, 64))
    b = rng.standard_normal((300, 64)) @ rng.standard_normal((64, 64)) + 0.3
    assert frechet_distance(a, b) == pytest.approx(fidelity(a, b), rel=1e-9)


@pytest.mark.parametrize('shared', [0, 10, 20])
def test_singular_covariances_against_the_exact_distance(shared):
    """Each set lies in a space of 20 of 100 dimensions, ``shared`` of which both have."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((100, 100)))
    scales = rng.uniform(0.5, 2, (2, 20))
    first = axes[:, :20]
    second = axes[:, 20 - shared : 40 - shared]
    # Axes of both sets are the last of the first and the first of the second.
    a, b = (
        Gaussian(np.zeros(100), (space * scale**2) @ space.T)
        for space, scale in zip((first, second), scales, strict=True)
    )
    common = scales[0, 20 - shared :] @ scales[1, :shared]
    expected = (scales**2).sum() - 2 * common
    # The root of a rounding error of 1e-16 would be 1e-8, and there are 80 of them.
    assert frechet(a, b) == pytest.approx(expected, rel=1e-12)


def test_fewer_images_than_dimensions_as_torch_fidelity():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 200)), rng.standard_normal((60, 200)) * 1.5
    # torch-fidelity adds the roots of 140 rounding errors.
    assert frechet_distance(a, b) == pytest.approx(fidelity(a, b), rel=1e-5)
    assert frechet_distance(a, a[::-1]) < 1e-10


def test_a_mean_that_is_large_against_the_spread():
    a = np.random.default_rng(0).standard_normal((300, 5))
    assert frechet_distance(a + 1e6, a) == pytest.approx(5e12, rel=1e-12)
    shifted = Gaussian.fit(a + 1e6)
    np.testing.assert_allclose(shifted.covariance, np.cov(a.T), atol=1e-8)


@pytest.mark.parametrize('sizes', [(1, 1, 1, 997), (100,) * 10, (1000,)])
def test_batches_do_not_matter(sizes):
    features = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32) + 3
    accumulator = GaussianAccumulator()
    for batch in np.split(features, np.cumsum(sizes)[:-1]):
        accumulator.update(batch)
    found = accumulator.result()
    assert found.count == 1000
    np.testing.assert_allclose(found.mean, features.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.T.astype(float)), atol=1e-13)


def test_sets_of_more_than_a_block():
    features = np.random.default_rng(0).standard_normal((2 * BLOCK + 100, 2))
    features[BLOCK:] += 1
    found = Gaussian.fit(torch.from_numpy(features))
    np.testing.assert_allclose(found.covariance, np.cov(features.T), rtol=1e-12)


UNIT, ZERO = np.eye(2), np.zeros(2)


@pytest.mark.parametrize(
    ('act', 'name'),
    [
        (lambda: frechet_distance(np.zeros((5, 3)), np.zeros((5, 4))), '3 and 4'),
        (lambda: frechet_distance(np.zeros((5, 3)), np.zeros((1, 3))), '1'),
        (lambda: frechet_distance(np.zeros((5, 2, 2)), np.zeros((5, 2, 2))), '5, 2, 2'),
        (lambda: Gaussian([0, math.nan], UNIT), 'finite'),
        (lambda: Gaussian(ZERO, np.eye(3)), 'covariance'),
        (lambda: frechet(Gaussian(ZERO, UNIT), Gaussian(np.zeros(3), np.eye(3))), '2 and 3'),
        (lambda: Gaussian.fit(np.array([[0.0], [math.inf]])), 'image 1'),
    ],
)
def test_refuses(act, name):
    with pytest.raises(InputError, match=name):
        act()
