"""Solvers of the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma (eq. 2, eq. 3).

They take one step, but for DPM-Solver++, which looks back at the steps before. A level is a number,
or (N,) with one level a sample. ``denoise(x, sigma)`` takes sigma (N,).
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Level = float | torch.Tensor


def per_sample(level: Level, x: torch.Tensor) -> torch.Tensor:
    """A level as (N,), on the device of x, in float32 or better."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if isinstance(level, torch.Tensor):
        return level.to(x.device, dtype).expand(len(x))
    # Filled on the device: a copy of a number from the host would wait for it.
    return x.new_full((len(x),), level, dtype=dtype)


def expand(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(N,) -> (N, 1, 1, 1), to multiply x with."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def slope(denoise: Denoise, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """dx/dsigma at ``sigma`` (N,)."""
    return (x - denoise(x, sigma)) / expand(sigma, x)


def euler_step(denoise: Denoise, x: torch.Tensor, sigma: Level, next_sigma: Level) -> torch.Tensor:
    """First order: one evaluation."""
    sigma, next_sigma = per_sample(sigma, x), per_sample(next_sigma, x)
    return x + slope(denoise, x, sigma) * expand(next_sigma - sigma, x)


def heun_step(denoise: Denoise, x: torch.Tensor, sigma: Level, next_sigma: Level) -> torch.Tensor:
    """Second order, two evaluations (arXiv:2206.00364, algorithm 1); ``next_sigma`` > 0."""
    sigma, next_sigma = per_sample(sigma, x), per_sample(next_sigma, x)
    gap = expand(next_sigma - sigma, x)
    first = slope(denoise, x, sigma)
    second = slope(denoise, x + first * gap, next_sigma)
    return x + (first + second) / 2 * gap


# Where DPM-Solver-2 evaluates for the second time: on a rho = 3 grid between the two levels, as
# in the paper's code, or at their geometric mean, as in arXiv:2206.00927 and k-diffusion.
MIDPOINTS = {
    'rho3': lambda sigma, next_sigma: ((sigma ** (1 / 3) + next_sigma ** (1 / 3)) / 2) ** 3,
    'geometric': lambda sigma, next_sigma: (sigma * next_sigma).sqrt(),
}


def midpoint_step(
    denoise: Denoise,
    x: torch.Tensor,
    sigma: Level,
    next_sigma: Level,
    midpoint: str = 'rho3',
) -> torch.Tensor:
    """Second order, two evaluations (DPM-Solver-2), the second at one of the :data:`MIDPOINTS`."""
    sigma, next_sigma = per_sample(sigma, x), per_sample(next_sigma, x)
    middle = MIDPOINTS[midpoint](sigma, next_sigma)
    x_middle = x + slope(denoise, x, sigma) * expand(middle - sigma, x)
    return x + slope(denoise, x_middle, middle) * expand(next_sigma - sigma, x)


# By how much the quadratic term of DPM-Solver++ counts: its integral, or half of it, as published
# and in diffusers, which leaves the third-order update with order 2.
QUADRATIC = {'whole': 1.0, 'half': 0.5}


def dpm_solver_pp(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sequence[float],
    order: int = 3,
    quadratic: str = 'whole',
) -> torch.Tensor:
    """DPM-Solver++ (arXiv:2211.01095, algorithm 2): multistep, in lambda = -ln sigma.

    One evaluation a step, none at the last level. The orders are 1, 2, ..., ``order``, and they
    fall again to 1 in the last steps.

    Args:
        denoise: See the module.
        x: Where the trajectory starts, at ``sigmas[0]``.
        sigmas: Descending levels; the last one may be 0, where the solution is the last denoised
            image.
        order: Of the steps in the middle, 1 to 3.
        quadratic: How much of the quadratic term a third-order step takes, see :data:`QUADRATIC`.

    Returns:
        (len(sigmas), N, C, H, W), the points visited, ``x`` first.
    """
    return torch.stack([x, *dpm_solver_points(denoise, x, sigmas, order, quadratic)])


def dpm_solver_points(
    denoise: Denoise, x: torch.Tensor, sigmas: Sequence[float], order: int, quadratic: str
) -> Iterator[torch.Tensor]:
    """The points of :func:`dpm_solver_pp` one after another, without the first."""
    num_steps = len(sigmas) - 1
    # Newest first: denoised images, and the lambdas at which they were made.
    outputs, lambdas = deque(maxlen=order), deque(maxlen=order)
    for i, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
        outputs.appendleft(denoise(x, per_sample(sigma, x)))
        lambdas.appendleft(-math.log(sigma))
        order_here = min(order, i + 1, num_steps - i)
        step = (-math.log(next_sigma) if next_sigma > 0 else math.inf) - lambdas[0]
        # Weights of a constant output, and of one that is linear or quadratic in lambda.
        constant = -math.expm1(-step)
        linear = 1 - constant / step
        square = 2 * QUADRATIC[quadratic] * (0.5 - linear / step)
        x = x * math.exp(-step) + constant * outputs[0]
        if order_here > 1:
            # Differences of the outputs, per step of this length.
            last = (lambdas[0] - lambdas[1]) / step
            rise = (outputs[0] - outputs[1]) / last
        if order_here == 2:
            x = x + constant / 2 * rise
        if order_here == 3:
            before = (lambdas[1] - lambdas[2]) / step
            bend = (rise - (outputs[1] - outputs[2]) / before) / (last + before)
            x = x + linear * (rise + last * bend) + square * bend
        yield x
