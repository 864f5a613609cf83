"""Samplers: whole trajectories from noise to image, each a pure function, and its registered class.

Each function is ``sample_X(denoise, x, sigmas, *, noise=None, progress=False, ...)`` with

* ``denoise(x, sigma)``: sigma (N,) -> denoised (N, C, H, W);
* ``x``: (N, C, H, W) at noise level ``sigmas[0]``;
* ``sigmas``: descending levels, without a trailing zero;
* ``noise(like)``: draws standard normal noise; default :func:`torch.randn_like`.

The ODE samplers (Euler, Heun, DPM-2) and the ancestral one append the final 0 themselves. The
classes hold the settings, as configs name them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from tqdm import tqdm

from ..errors import InputError, closest
from ..registry import DIFFUSION_SAMPLERS
from .schedules import check_levels, karras_sigmas
from .solvers import MIDPOINTS, Denoise, euler_step, heun_step, midpoint_step, per_sample

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


class DiffusionSampler(ABC):
    """A sampling function with its settings, as configs name it.

    Attributes:
        num_evaluations: Network evaluations an image (NFE).
        sigma_max: The noise level at which ``x`` starts.
    """

    num_evaluations: int
    sigma_max: float
    clip_denoised: bool = True

    @abstractmethod
    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """The trajectory itself."""

    def __call__(
        self,
        denoise: Denoise,
        x: torch.Tensor,
        noise: Noise | None = None,
        progress: bool = False,
    ) -> torch.Tensor:
        """Draw images.

        Args:
            denoise: ``denoise(x, sigma)`` with sigma (N,).
            x: (N, C, H, W) at level ``sigma_max``, that is standard normal noise times it.
            noise: Draws further noise; default :func:`torch.randn_like`.
            progress: Show a bar over the steps.

        Returns:
            (N, C, H, W) in [-1, 1]; with ``clip_denoised=False`` as the network gives it.
        """
        if not self.clip_denoised:
            return self.sample(denoise, x, noise, progress)

        def clipped(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return denoise(x, sigma).clamp(-1, 1)

        return self.sample(clipped, x, noise, progress).clamp(-1, 1)


@DIFFUSION_SAMPLERS.register_module()
@dataclass
class OnestepSampler(DiffusionSampler):
    """One network evaluation at ``sigma_max``."""

    sigma_max: float = 80.0
    clip_denoised: bool = True
    num_evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_levels([self.sigma_max])

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_onestep`."""
        return sample_onestep(denoise, x, [self.sigma_max])


@DIFFUSION_SAMPLERS.register_module()
class MultistepSampler(DiffusionSampler):
    """Multistep consistency sampling (algorithm 1).

    The levels are given by indices into the Karras grid, as the paper's code publishes them, or
    directly.

    Args:
        ts: Indices, increasing, ending with ``num_scales - 1`` (the end of the trajectory, which
            is not evaluated): (0, 22, 39) of 40 takes two evaluations.
        num_scales: Levels of the grid that ``ts`` counts.
        sigmas: The levels themselves, descending, instead of ``ts``: (80, 1.38).
        sigma_min: Lowest level of the grid.
        sigma_max: Highest level of the grid.
        rho: Curvature of the grid.
        clip_denoised: Clamp each denoised image to [-1, 1].
    """

    def __init__(
        self,
        ts: Sequence[int] | None = None,
        num_scales: int = 40,
        sigmas: Sequence[float] | None = None,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        clip_denoised: bool = True,
    ) -> None:
        if (ts is None) == (sigmas is None):
            raise InputError(
                'MultistepSampler takes either ts or sigmas, for example ts=(0, 22, 39)'
            )
        if sigmas is None:
            sigmas = self._levels_of(ts, karras_sigmas(num_scales, sigma_min, sigma_max, rho))
        self.sigmas = tuple(check_levels(sigmas, sigma_min))
        self.sigma_min = sigma_min
        self.sigma_max = self.sigmas[0]
        self.clip_denoised = clip_denoised
        self.num_evaluations = len(self.sigmas)

    def __repr__(self) -> str:
        levels = ', '.join(f'{sigma:.4g}' for sigma in self.sigmas)
        return f'MultistepSampler(sigmas=({levels}))'

    @staticmethod
    def _levels_of(ts: Sequence[int], grid: torch.Tensor) -> list[float]:
        integers = isinstance(ts, Sequence) and all(isinstance(t, int) for t in ts)
        if not integers:
            raise InputError(f'ts must be a tuple of integers such as (0, 22, 39), not {ts!r}.')
        last = len(grid) - 1
        rising = all(a < b for a, b in pairwise(ts))
        if len(ts) < 2 or not rising or ts[0] < 0 or ts[-1] > last:
            raise InputError(f'ts must rise from 0 or more to {last} of {len(grid)}, not {ts}.')
        if ts[-1] != last:
            raise InputError(
                f'ts = {tuple(ts)} stops at level {grid[ts[-1]]:.3g} and leaves noise in the '
                f'picture: end it with num_scales - 1 = {last}.'
            )
        return [float(grid[t]) for t in ts[:-1]]

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_multistep`."""
        return sample_multistep(
            denoise, x, self.sigmas, noise=noise, progress=progress, sigma_min=self.sigma_min
        )


@dataclass
class _GridSampler(DiffusionSampler):
    """Settings of the samplers that walk down a Karras grid."""

    num_steps: int = 40
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    clip_denoised: bool = True

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise InputError(f'num_steps must be at least 1, not {self.num_steps}.')
        check_levels(self.grid())  # steps divide by them

    def grid(self) -> torch.Tensor:
        """The levels at which steps begin, (num_steps,)."""
        return karras_sigmas(self.num_steps, self.sigma_min, self.sigma_max, self.rho)

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return self.num_steps


@dataclass
class _SecondOrderSampler(_GridSampler):
    """Settings of the second-order samplers; see :func:`sample_heun`."""

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    function: ClassVar[Callable]

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See the sampling function of the same name."""
        return self.function(
            denoise,
            x,
            self.grid(),
            noise=noise,
            progress=progress,
            s_churn=self.s_churn,
            s_tmin=self.s_tmin,
            s_tmax=self.s_tmax,
            s_noise=self.s_noise,
        )


@DIFFUSION_SAMPLERS.register_module()
class HeunSampler(_SecondOrderSampler):
    """Heun's method: 2 num_steps - 1 evaluations (the paper's teacher: 40 steps, 79)."""

    function = staticmethod(sample_heun)

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return 2 * self.num_steps - 1


@DIFFUSION_SAMPLERS.register_module()
@dataclass
class DPM2Sampler(_SecondOrderSampler):
    """DPM-Solver-2: 2 num_steps evaluations; with k-diffusion's midpoint one less.

    ``midpoint`` is 'rho3' (OpenAI's) or 'geometric' (k-diffusion's), see :func:`sample_dpm2`.
    """

    midpoint: str = 'rho3'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.midpoint not in MIDPOINTS:
            raise InputError(
                f'{self.midpoint!r} is no midpoint.{closest(self.midpoint, MIDPOINTS)}'
            )

    @property
    def function(self) -> Callable:
        """The sampling function with the midpoint."""
        return partial(sample_dpm2, midpoint=self.midpoint)

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return 2 * self.num_steps - (self.midpoint == 'geometric')


@DIFFUSION_SAMPLERS.register_module()
class EulerSampler(_GridSampler):
    """Euler's method: num_steps evaluations."""

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_euler`."""
        return sample_euler(denoise, x, self.grid(), progress=progress)


@DIFFUSION_SAMPLERS.register_module()
class EulerAncestralSampler(_GridSampler):
    """Ancestral sampling: num_steps evaluations."""

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_euler_ancestral`."""
        return sample_euler_ancestral(denoise, x, self.grid(), noise=noise, progress=progress)


@DIFFUSION_SAMPLERS.register_module()
class ProgressiveSampler(_GridSampler):
    """num_steps Euler steps to ``sigma_min``, as progressive distillation trains them."""

    def grid(self) -> torch.Tensor:
        """The levels at which steps begin and end, (num_steps + 1,)."""
        return karras_sigmas(self.num_steps + 1, self.sigma_min, self.sigma_max, self.rho)

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_progressive`."""
        return sample_progressive(denoise, x, self.grid(), progress=progress)
