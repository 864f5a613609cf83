"""Precision and recall: the definition by loops, known sets, and torch-fidelity."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import precision_recall


def sets(count=120, other=90, size=6):
    rng = np.random.default_rng(0)
    real = rng.standard_normal((count, size)).astype(np.float32)
    return real, rng.standard_normal((other, size)).astype(np.float32) * 0.6 + 0.4


def share_inside(points, manifold, k):
    """Share of points that are in a ball around one of the manifold, pair by pair."""
    radii = [sorted(np.linalg.norm(x - y) for y in manifold)[k] for x in manifold]  # [0] is x
    inside = [
        any(np.linalg.norm(p - x) <= r for x, r in zip(manifold, radii, strict=True))
        for p in points
    ]
    return np.mean(inside)


@pytest.mark.parametrize('k', [1, 3, 5])
def test_definition(k):
    real, generated = (x.astype(np.float64) for x in sets())
    found = precision_recall(real, generated, k=k)
    assert found.precision == share_inside(generated, real, k)
    assert found.recall == share_inside(real, generated, k)
    assert 0 < found.recall < found.precision  # generated images are bunched


def test_torch_fidelity_says_the_same():
    """Its first set is the generated one."""
    real, generated = sets(700, 500, 8)
    theirs = prc_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), prc_neighborhood=3, verbose=False
    )
    found = precision_recall(real, generated)
    assert found.precision == pytest.approx(theirs['precision'], abs=1e-5)
    assert found.recall == pytest.approx(theirs['recall'], abs=1e-5)
    assert 0 < found.recall < found.precision < 1


@pytest.mark.parametrize('block', [5, 64, 1000])
def test_blocks_do_not_matter(block):
    real, generated = sets()
    assert precision_recall(real, generated, block=block) == precision_recall(real, generated)


@pytest.mark.parametrize('offset', [0, 1000])
def test_identical_sets(offset):
    real = sets(200, size=300)[0] + offset
    assert precision_recall(real, real[::-1], block=30) == (1, 1)


@pytest.mark.parametrize('block', [3, 4096])
def test_images_that_repeat(block):
    """Balls of no size hold only what is equal; rounding does not decide."""
    rng = np.random.default_rng(0)
    four = rng.standard_normal((4, 500)).astype(np.float32) * 30 + 100
    real = four[[0, 0, 0, 0, 1, 1, 1, 1]]
    assert precision_recall(real, four[[0, 1, 2, 3] * 4], block=block) == (0.5, 1)


@pytest.mark.parametrize('block', [2, 4096])
def test_the_surface_is_inside(block):
    """Points on a grid of levels, whose distances are often equal."""
    real = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]) * 0.1 + 7
    # With k = 1 the balls reach 0.1 far: 7.5 is on the last one, 7.6 is out.
    generated = np.array([[7.5], [7.6], [6.9]])
    assert precision_recall(real, generated, k=1, block=block).precision == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ('real', 'generated', 'name'), [((3, 2), (9, 2), '3 real'), ((9, 2), (9, 3), '2 and 3')]
)
def test_refuses(real, generated, name):
    with pytest.raises(InputError, match=name):
        precision_recall(np.zeros(real), np.zeros(generated))


def test_a_shift_of_both_does_not_matter():
    """Squared lengths of 1e13 have no digits left for distances of 1, unless they are centred."""
    real, generated = (x.astype(np.float64) for x in sets())
    found = precision_recall(real + 1e6, generated + 1e6)
    assert found == precision_recall(real, generated)
