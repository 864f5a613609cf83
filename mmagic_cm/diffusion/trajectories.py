"""Whole trajectories from noise to image, as pure functions.

Each function is ``sample_X(denoise, x, sigmas, *, noise=None, progress=False, ...)`` with

* ``denoise(x, sigma)``: sigma (N,) -> denoised (N, C, H, W);
* ``x``: (N, C, H, W) at noise level ``sigmas[0]``;
* ``sigmas``: descending levels, without a trailing zero;
* ``noise(like)``: draws standard normal noise; default :func:`torch.randn_like`.

The ODE samplers (Euler, Heun, DPM-2) and the ancestral one append the final 0 themselves.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from tqdm import tqdm

from .solvers import Denoise, euler_step, heun_step, midpoint_step, per_sample

Noise = Callable[[torch.Tensor], torch.Tensor]
Sigmas = torch.Tensor | Sequence[float]


def _levels(sigmas: Sigmas) -> list[float]:
    """Levels as numbers: the host decides about steps without reading the device."""
    return sigmas.tolist() if isinstance(sigmas, torch.Tensor) else [float(s) for s in sigmas]


def _steps(levels: list[float], progress: bool, description: str) -> Iterator[tuple[float, float]]:
    steps = list(pairwise(levels))
    yield from tqdm(steps, description, disable=not progress, leave=False)


def sample_onestep(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """One evaluation of the consistency model at ``sigmas[0]``; further levels are not used."""
    return denoise(x, per_sample(_levels(sigmas)[0], x))


def sample_multistep(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
    sigma_min: float = 0.002,
) -> torch.Tensor:
    """Multistep consistency sampling (algorithm 1): denoise, add noise again, denoise ...

    Args:
        denoise: See the module.
        x: See the module.
        sigmas: The levels visited, each once: one evaluation a level.
        noise: See the module.
        progress: Show a bar.
        sigma_min: The level that the denoised images are taken to have.
    """
    noise = noise or torch.randn_like
    levels = _levels(sigmas)
    x = denoise(x, per_sample(levels[0], x))
    for _, sigma in _steps(levels, progress, 'multistep'):
        x = x + math.sqrt(sigma**2 - sigma_min**2) * noise(x)
        x = denoise(x, per_sample(sigma, x))
    return x


def sample_euler(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """Euler's method down to 0: one evaluation a level, deterministic."""
    for sigma, next_sigma in _steps([*_levels(sigmas), 0.0], progress, 'euler'):
        x = euler_step(denoise, x, sigma, next_sigma)
    return x


def sample_progressive(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """Euler's method that stops at ``sigmas[-1]``: what a progressively distilled student takes."""
    for sigma, next_sigma in _steps(_levels(sigmas), progress, 'progressive'):
        x = euler_step(denoise, x, sigma, next_sigma)
    return x


def _churn(
    x: torch.Tensor,
    sigma: float,
    num_steps: int,
    noise: Noise,
    s_churn: float,
    s_tmin: float,
    s_tmax: float,
    s_noise: float,
) -> tuple[torch.Tensor, float]:
    """Raise the noise level before a step (arXiv:2206.00364, algorithm 2, lines 4 to 6)."""
    gamma = min(s_churn / num_steps, math.sqrt(2) - 1) if s_tmin <= sigma <= s_tmax else 0.0
    if gamma == 0:
        return x, sigma
    raised = sigma * (1 + gamma)
    return x + s_noise * math.sqrt(raised**2 - sigma**2) * noise(x), raised


def sample_heun(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> torch.Tensor:
    """Heun's method (arXiv:2206.00364, algorithm 2): two evaluations a step, one in the last.

    Args:
        denoise: See the module.
        x: See the module.
        sigmas: See the module.
        noise: See the module.
        progress: Show a bar.
        s_churn: Amount of noise added before the steps; 0 is the deterministic sampler.
        s_tmin: Lowest level at which noise is added.
        s_tmax: Highest level at which noise is added.
        s_noise: Standard deviation of the added noise.
    """
    noise = noise or torch.randn_like
    levels = [*_levels(sigmas), 0.0]
    for sigma, next_sigma in _steps(levels, progress, 'heun'):
        x, sigma = _churn(x, sigma, len(levels) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        # At 0 the slope is not defined: the last step is Euler's.
        step = heun_step if next_sigma > 0 else euler_step
        x = step(denoise, x, sigma, next_sigma)
    return x


def sample_dpm2(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
    midpoint: str = 'rho3',
) -> torch.Tensor:
    """DPM-Solver-2 (arXiv:2206.00927): two evaluations a step. Arguments: :func:`sample_heun`.

    ``midpoint`` is where the second one lies: 'rho3' is that of the paper's code (OpenAI's),
    'geometric' that of k-diffusion, which takes one evaluation in the last step.
    """
    noise = noise or torch.randn_like
    levels = [*_levels(sigmas), 0.0]
    for sigma, next_sigma in _steps(levels, progress, 'dpm2'):
        x, sigma = _churn(x, sigma, len(levels) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        if midpoint == 'geometric' and next_sigma == 0:  # it would be at 0, too
            x = euler_step(denoise, x, sigma, next_sigma)
        else:
            x = midpoint_step(denoise, x, sigma, next_sigma, midpoint)
    return x


def sample_euler_ancestral(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """Ancestral sampling: an Euler step below the next level, then noise up to it."""
    noise = noise or torch.randn_like
    for sigma, next_sigma in _steps([*_levels(sigmas), 0.0], progress, 'ancestral'):
        variance_up = next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2
        x = euler_step(denoise, x, sigma, math.sqrt(next_sigma**2 - variance_up))
        if next_sigma > 0:
            x = x + math.sqrt(variance_up) * noise(x)
    return x
