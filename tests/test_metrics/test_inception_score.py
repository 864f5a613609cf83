"""The Inception Score: closed forms, and torch-fidelity."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import inception_score


def test_certain_and_even_is_the_number_of_classes():
    certain = np.eye(7).repeat(20, axis=0) * 1000
    assert inception_score(certain).mean == pytest.approx(7, rel=1e-12)


def test_always_the_same_is_one():
    assert inception_score(np.ones((30, 5))).mean == pytest.approx(1, rel=1e-12)
    assert inception_score(np.eye(5)[[2] * 30] * 1000).mean == pytest.approx(1, rel=1e-12)


def test_two_classes_with_doubt():
    """KL of (p, 1 - p) against (1/2, 1/2)."""
    p = 0.8
    logits = np.log([[p, 1 - p], [1 - p, p]])
    expected = 2 * p**p * (1 - p) ** (1 - p)
    assert inception_score(logits).mean == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('splits', [1, 10])
def test_torch_fidelity_says_the_same(splits):
    logits = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32) * 2
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits, shuffle=False)
    found = inception_score(logits, split_size=300 // splits)
    assert found.mean == pytest.approx(theirs['inception_score_mean'], rel=1e-10)
    assert found.std == pytest.approx(theirs['inception_score_std'], rel=1e-10)


def test_splits_in_order_the_last_may_be_short():
    logits = np.random.default_rng(0).standard_normal((25, 6)) * 3
    parts = [inception_score(part).mean for part in (logits[:10], logits[10:20], logits[20:])]
    found = inception_score(logits, split_size=10)
    assert found.mean == pytest.approx(np.mean(parts), rel=1e-12)
    assert found.std == pytest.approx(np.std(parts), rel=1e-12)


def test_refuses():
    logits = np.zeros((5, 3))
    logits[3, 0] = np.nan
    with pytest.raises(InputError, match='image 3'):
        inception_score(logits)
