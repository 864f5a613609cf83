"""Samplers: the trajectories of :mod:`.trajectories`, and classes that hold their settings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch

from ..errors import InputError, closest
from ..registry import DIFFUSION_SAMPLERS
from .schedules import check_levels, karras_sigmas
from .solvers import MIDPOINTS, Denoise
from .trajectories import (
    Noise,
    sample_dpm2,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_multistep,
    sample_onestep,
    sample_progressive,
)

__all__ = [
    'DPM2Sampler',
    'DiffusionSampler',
    'EulerAncestralSampler',
    'EulerSampler',
    'HeunSampler',
    'MultistepSampler',
    'OnestepSampler',
    'ProgressiveSampler',
    'sample_dpm2',
    'sample_euler',
    'sample_euler_ancestral',
    'sample_heun',
    'sample_multistep',
    'sample_onestep',
    'sample_progressive',
]


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
