"""The Fréchet distance: closed forms."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from mmagic_cm.errors import InputError
from mmagic_cm.evaluation import frechet_distance


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
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2)


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


def test_one_dimension():
    a, b = features([0], [[4.0]]), features([1], [[1.0]], seed=1)
    assert frechet_distance(a, b) == pytest.approx(1 + 1)


@pytest.mark.parametrize(
    ('a', 'b'),
    [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5, 3), (1, 3)), ((5, 2, 2), (5, 2, 2)), ((5,), (5,))],
)
def test_refuses(a, b):
    with pytest.raises(InputError, match='Features must be'):
        frechet_distance(np.zeros(a), np.zeros(b))
