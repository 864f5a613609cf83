"""KID: the definition by loops, and torch-fidelity."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import kernel_distance


def sets(count=60, other=50, size=12):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, size)), rng.standard_normal((other, size)) * 1.2 + 0.2


def test_definition():
    """Unbiased estimate of E k(x, x') + E k(y, y') - 2 E k(x, y), pair by pair."""
    x, y = sets(15, 15, 4)

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    pairs = [(i, j) for i in range(15) for j in range(15)]
    apart = [(i, j) for i, j in pairs if i != j]
    expected = (
        np.mean([kernel(x[i], x[j]) for i, j in apart])
        + np.mean([kernel(y[i], y[j]) for i, j in apart])
        - 2 * np.mean([kernel(x[i], y[j]) for i, j in pairs])
    )
    found = kernel_distance(x, y, num_subsets=3, subset_size=15)
    assert found.mean == pytest.approx(expected, rel=1e-12)
    assert found.std == pytest.approx(0, abs=1e-12)  # every subset is all of them


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_torch_fidelity_says_the_same(dtype):
    real, generated = (x.astype(dtype) for x in sets())
    found = kernel_distance(real, generated, num_subsets=20, subset_size=40, seed=2020)
    theirs = kid_features_to_metric(
        torch.from_numpy(generated),
        torch.from_numpy(real),
        kid_subsets=20,
        kid_subset_size=40,
        verbose=False,
    )
    tolerance = 1e-5 if dtype is np.float32 else 1e-12  # theirs is computed in the type it gets
    assert found.mean == pytest.approx(theirs['kernel_inception_distance_mean'], rel=tolerance)
    assert found.std == pytest.approx(theirs['kernel_inception_distance_std'], rel=tolerance)


def test_seed_draws_the_subsets():
    real, generated = sets()
    one, again, other = (kernel_distance(real, generated, 5, 20, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_subsets_shrink_with_a_warning(logged):
    real, generated = sets(60, 50)
    found = kernel_distance(real, generated, 5)
    assert found == kernel_distance(real, generated, 5, 50)
    [said] = logged()
    assert '1000' in said


@pytest.mark.parametrize(
    ('real', 'generated', 'name'),
    [((1, 3), (5, 3), '1 real'), ((5, 3), (5, 4), '3 and 4'), ((5, 3, 1), (5, 3), '5, 3, 1')],
)
def test_refuses(real, generated, name):
    with pytest.raises(InputError, match=name):
        kernel_distance(np.zeros(real), np.zeros(generated))
