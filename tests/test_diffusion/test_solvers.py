"""The probability-flow ODE: single steps, and DPM-Solver++."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from mmagic_cm.diffusion.schedules import karras_sigmas
from mmagic_cm.diffusion.solvers import (
    dpm_solver_pp,
    euler_step,
    heun_step,
    midpoint_step,
    per_sample,
    slope,
)

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
    assert per_sample(1, x.float()).dtype == per_sample(1, x.half()).dtype == torch.float32
    assert per_sample(1, x).dtype == torch.float64


# --- DPM-Solver++ ---


def log_uniform(num_steps, sigma_max=80.0, sigma_min=0.002):
    return [sigma_max * (sigma_min / sigma_max) ** (i / num_steps) for i in range(num_steps + 1)]


def stand_in(x, sigma):
    """The denoiser with which the reference numbers were recorded."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    return 0.9 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2).sqrt())


@pytest.mark.parametrize('row', ['N16', 'N10'])
def test_points_of_the_reference(row, goldens):
    recorded = goldens('cmt')
    start = recorded['images'].double() + 80 * recorded['noise'].double()
    levels = recorded[f'{row}/nodes'].tolist()
    assert levels == pytest.approx(log_uniform(len(levels) - 1), rel=1e-12)
    points = dpm_solver_pp(stand_in, start, levels, quadratic='half')
    torch.testing.assert_close(points, recorded[f'{row}/points'], rtol=1e-10, atol=1e-10)
    whole = dpm_solver_pp(stand_in, start, levels)
    end = recorded[f'{row}/end_full_quadratic_term']
    torch.testing.assert_close(whole[-1], end, rtol=1e-10, atol=1e-10)
    assert torch.equal(whole[0], start)


# The error of the end point relative to the data, which is N(0, 1 / 4).
@pytest.mark.parametrize(
    ('quadratic', 'errors'),
    [('half', (1.72e-2, 2.96e-3, 6.24e-4)), ('whole', (8.2e-3, 6.4e-4, 3.8e-5))],
)
def test_errors_on_a_gaussian(quadratic, errors, gaussian, x):
    data = type(gaussian)(mean=0.0)
    for num_steps, expected in zip((16, 32, 64), errors, strict=True):
        levels = log_uniform(num_steps)
        end = dpm_solver_pp(data.denoise, 80 * x, levels, quadratic=quadratic)[-1]
        exact = data.flow(80 * x, 80.0, 0.002)
        found = ((end - exact) / exact).abs().max().item()
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize('grid', [log_uniform, lambda n: karras_sigmas(n + 1).tolist()])
@pytest.mark.parametrize(
    ('settings', 'low', 'high'),
    [
        (dict(order=1), 0.9, 1.1),
        (dict(order=2), 1.9, 2.1),
        (dict(quadratic='half'), 1.6, 2.2),
        # The first step and the last are of lower orders, where little is to be solved.
        ({}, 2.9, 4.5),
    ],
)
def test_order_of_dpm_solver(grid, settings, low, high, gaussian, x):
    exact = gaussian.flow(80 * x, 80.0, 0.002)
    errors = [
        (dpm_solver_pp(gaussian.denoise, 80 * x, grid(n), **settings)[-1] - exact).abs().max()
        for n in (64, 128, 256)
    ]
    for coarse, fine in pairwise(errors):
        assert low < math.log2(coarse / fine) < high


@pytest.mark.parametrize('order', [1, 2, 3])
@pytest.mark.parametrize('end', [0.002, 0.0])
def test_dpm_solver_is_exact_where_trajectories_are_straight(order, end, x):
    x0 = torch.full_like(x, 0.25)
    levels = [80.0, 20.0, 7.0, 1.0, 0.3, 0.01, end]
    found = dpm_solver_pp(lambda x, sigma: x0, x0 + 80 * x, levels, order)
    expected = torch.stack([x0 + level * x for level in levels])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_dpm_solver_evaluates_once_a_step(x):
    levels, seen = log_uniform(5), []

    def denoise(x, sigma):
        seen.append((x, sigma[0].item()))
        return x.tanh()

    points = dpm_solver_pp(denoise, x, levels)
    assert [sigma for _, sigma in seen] == levels[:-1]
    assert all(torch.equal(point, at) for point, (at, _) in zip(points, seen, strict=False))
    assert len(points) == 6
