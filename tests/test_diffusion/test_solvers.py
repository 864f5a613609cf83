"""One step of the probability-flow ODE."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from mmagic_cm.diffusion.solvers import euler_step, heun_step, midpoint_step, per_sample, slope

geometric_step = partial(midpoint_step, midpoint='geometric')
STEPS = [euler_step, heun_step, midpoint_step, geometric_step]


@pytest.fixture
def x():
    return torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_slope(gaussian, x):
    sigma = torch.tensor([0.5, 1.0, 4.0])
    # Of the closed form of the trajectory: dx/dsigma = sigma (x - mean) / (variance + sigma^2).
    levels = sigma.double().reshape(-1, 1, 1, 1)
    expected = levels * (x - gaussian.mean) / (gaussian.variance + levels**2)
    torch.testing.assert_close(slope(gaussian.denoise, x, sigma), expected)


@pytest.mark.parametrize('step', STEPS)
def test_exact_where_the_trajectory_is_straight(step, x):
    """Of a single image x0 all trajectories are x0 + sigma z."""
    x0 = torch.full_like(x, 0.25)
    found = step(lambda x, sigma: x0, x0 + 3.0 * x, 3.0, 0.7)
    torch.testing.assert_close(found, x0 + 0.7 * x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('step', 'order'), [(euler_step, 1), (heun_step, 2), (midpoint_step, 2), (geometric_step, 2)]
)
def test_local_error_falls_with_one_power_more_than_the_order(step, order, gaussian, x):
    errors = []
    for gap in (0.125, 0.0625, 0.03125):  # exact in float32
        exact = gaussian.flow(x, 1.0, 1.0 - gap)
        errors.append((step(gaussian.denoise, x, 1.0, 1.0 - gap) - exact).abs().max().item())
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes == pytest.approx([order + 1] * 2, abs=0.2)


@pytest.mark.parametrize('step', STEPS)
def test_a_level_may_differ_by_sample(step, gaussian, x):
    levels, following = torch.tensor([4.0, 1.0, 0.5]), torch.tensor([3.0, 0.25, 0.125])
    found = step(gaussian.denoise, x, levels, following)
    for i in range(3):
        alone = step(gaussian.denoise, x[i : i + 1], levels[i].item(), following[i].item())
        torch.testing.assert_close(found[i : i + 1], alone)


@pytest.mark.parametrize(
    ('step', 'visited'),
    [
        (euler_step, [2.0]),
        (heun_step, [2.0, 0.5]),
        (midpoint_step, [2.0, ((2.0 ** (1 / 3) + 0.5 ** (1 / 3)) / 2) ** 3]),
        (geometric_step, [2.0, 1.0]),
    ],
)
def test_levels_visited(step, visited, x):
    seen = []

    def denoise(x, sigma):
        assert sigma.shape == (len(x),)
        seen.append(sigma[0].item())
        return 0 * x

    step(denoise, x, 2.0, 0.5)
    assert seen == pytest.approx(visited, rel=1e-6)


def test_per_sample(x):
    assert per_sample(2.0, x).tolist() == [2.0] * 3
    assert per_sample(torch.tensor([1.0, 2.0, 3.0]), x).tolist() == [1.0, 2.0, 3.0]
    assert per_sample(1, x).dtype == torch.float32
