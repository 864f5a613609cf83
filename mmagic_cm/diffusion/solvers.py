"""One step of the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma (eq. 2, eq. 3).

A level is a number, or (N,) with one level a sample. ``denoise(x, sigma)`` takes sigma (N,).
"""

from collections.abc import Callable

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Level = float | torch.Tensor


def per_sample(level: Level, x: torch.Tensor) -> torch.Tensor:
    """A level as (N,), on the device of x."""
    if isinstance(level, torch.Tensor):
        return level.to(x.device, torch.float32).expand(len(x))
    # Filled on the device: a copy of a number from the host would wait for it.
    return x.new_full((len(x),), level, dtype=torch.float32)


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
