"""Noise levels that training draws: their distributions."""

import math
from itertools import pairwise

import pytest
import torch

from mmagic_cm.diffusion.noise_levels import discrete_lognormal_probs, lognormal_sigmas
from mmagic_cm.diffusion.schedules import karras_sigmas


def test_lognormal_sigmas():
    n, mean, std = 100_000, -1.1, 2.0
    draw = lognormal_sigmas(n, mean, std, torch.Generator().manual_seed(3)).log()
    # Five standard errors of the mean and of the standard deviation.
    assert draw.mean().item() == pytest.approx(mean, abs=5 * std / math.sqrt(n))
    assert draw.std().item() == pytest.approx(std, abs=5 * std / math.sqrt(2 * n))
    again = lognormal_sigmas(n, mean, std, torch.Generator().manual_seed(3)).log()
    assert torch.equal(draw, again)


@pytest.mark.parametrize('num_scales', [11, 1281])
@pytest.mark.parametrize(('mean', 'std'), [(-1.1, 2.0), (0.3, 0.7)])
def test_discrete_lognormal_probs(num_scales, mean, std):
    sigmas = karras_sigmas(num_scales)
    # Each interval's share of a normal distribution of ln sigma (iCT, section 3.5).
    erf = [math.erf((math.log(s) - mean) / (math.sqrt(2) * std)) for s in sigmas.tolist()]
    mass = [above - below for above, below in pairwise(erf)]
    expected = torch.tensor(mass, dtype=torch.float64) / sum(mass)
    found = discrete_lognormal_probs(sigmas, mean, std)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-9)
    assert found.sum().item() == pytest.approx(1, abs=1e-6)
    # The most likely interval lies in the bulk: a wrong sign of the mean would move it.
    bulk = sigmas[found.argmax()].log().item()
    assert abs(bulk - mean) < 2 * std
