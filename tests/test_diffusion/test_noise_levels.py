"""Noise levels that training draws: their distributions."""

import math
from itertools import pairwise

import pytest
import torch

from mmagic_cm.diffusion.noise_levels import (
    discrete_lognormal_probs,
    lognormal_sigmas,
    truncated_lognormal_quantiles,
    truncated_student_quantiles,
)
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


@pytest.mark.parametrize('row', ['normal/cifar', 'normal/imagenet'])
def test_quantiles_of_a_truncated_lognormal(row, goldens):
    recorded = goldens('tcm')
    settings = recorded[f'sampler/{row}/mean_std_low_high'].tolist()
    found = truncated_lognormal_quantiles(recorded['sampler/u'], *settings)
    torch.testing.assert_close(found, recorded[f'sampler/{row}'], rtol=1e-9, atol=0)


@pytest.mark.parametrize('row', ['student_t/cifar_stage2', 'student_t/wide'])
def test_quantiles_of_a_truncated_student(row, goldens):
    recorded = goldens('tcm')
    *settings, df = recorded[f'sampler/{row}/mean_std_low_high_df'].tolist()
    found = truncated_student_quantiles(recorded['sampler/u'], df, *settings)
    torch.testing.assert_close(found, recorded[f'sampler/{row}'], rtol=1e-9, atol=0)


@pytest.mark.parametrize('df', [0.01, 1.0, 30.0])
def test_student_quantiles_follow_the_density(df):
    """d share / d ln sigma ~ (1 + T^2 / df)^(-(df + 1) / 2), and the ends are the bounds."""
    shares = torch.linspace(0, 1, 1001, dtype=torch.float64)
    levels = truncated_student_quantiles(shares, df, -0.3, 0.5, 0.1, 20.0)
    assert levels[[0, -1]].tolist() == pytest.approx([0.1, 20.0])
    assert (levels.diff() > 0).all()
    t = (levels.log() + 0.3) / 0.5
    density = (1 + t**2 / df) ** (-(df + 1) / 2)
    # By Simpson's rule, each two intervals hold the same share.
    at = (t[:-2] + t[2:]) / 2
    middle = (1 + at**2 / df) ** (-(df + 1) / 2)
    mass = (t[2:] - t[:-2]) * (density[:-2] + 4 * middle + density[2:]) / 6
    inner = mass[200:-200]
    torch.testing.assert_close(inner, inner.mean().expand_as(inner), rtol=1e-5, atol=0)
