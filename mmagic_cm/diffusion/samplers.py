"""Samplers: whole trajectories from noise to image, each a pure function, and its registered class.

Each function is ``sample_X(denoise, x, sigmas, *, noise=None, progress=False, ...)`` with

* ``denoise(x, sigma)``: sigma (N,) -> denoised (N, C, H, W);
* ``x``: (N, C, H, W) at noise level ``sigmas[0]``;
* ``sigmas``: descending levels, without a trailing zero;
* ``noise(like)``: draws standard normal noise; default :func:`torch.randn_like`.

The ODE samplers (Euler, Heun, DPM-2, DPM-Solver++) and the ancestral one append the final 0
themselves. The classes hold the settings, as configs name them.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from tqdm import tqdm

from ..errors import InputError, closest
from ..registry import DIFFUSION_SAMPLERS
from .schedules import NoiseRange, Ranged, check_levels, karras_sigmas
from .solvers import (
    MIDPOINTS,
    QUADRATIC,
    Denoise,
    dpm_solver_points,
    euler_step,
    heun_step,
    midpoint_step,
    per_sample,
)

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
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
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
    **churn: float,
) -> torch.Tensor:
    """Heun's method (arXiv:2206.00364, algorithm 2): two evaluations a step, one in the last.

    Args:
        denoise: See the module.
        x: See the module.
        sigmas: See the module.
        noise: See the module.
        progress: Show a bar.
        **churn: ``s_churn``, the amount of noise added before the steps (default 0: none);
            ``s_tmin`` and ``s_tmax``, the lowest and highest level at which it is; ``s_noise``, its
            standard deviation (1).
    """
    noise = noise or torch.randn_like
    levels = [*_levels(sigmas), 0.0]
    for sigma, next_sigma in _steps(levels, progress, 'heun'):
        x, sigma = _churn(x, sigma, len(levels) - 1, noise, **churn)
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
    midpoint: str = 'rho3',
    **churn: float,
) -> torch.Tensor:
    """DPM-Solver-2 (arXiv:2206.00927): two evaluations a step.

    Args:
        denoise: See the module.
        x: See the module.
        sigmas: See the module.
        noise: See the module.
        progress: Show a bar.
        midpoint: Where the second evaluation lies: 'rho3' as in the paper's code (OpenAI's), or
            'geometric' as in k-diffusion, which takes one evaluation in the last step.
        **churn: As of :func:`sample_heun`.
    """
    noise = noise or torch.randn_like
    levels = [*_levels(sigmas), 0.0]
    for sigma, next_sigma in _steps(levels, progress, 'dpm2'):
        x, sigma = _churn(x, sigma, len(levels) - 1, noise, **churn)
        if midpoint == 'geometric' and next_sigma == 0:  # it would be at 0, too
            x = euler_step(denoise, x, sigma, next_sigma)
        else:
            x = midpoint_step(denoise, x, sigma, next_sigma, midpoint)
    return x


def sample_dpm_solver(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    progress: bool = False,
    order: int = 3,
    quadratic: str = 'whole',
) -> torch.Tensor:
    """DPM-Solver++ down to 0: one evaluation a level, deterministic.

    Args:
        denoise: See the module.
        x: See the module.
        sigmas: See the module.
        noise: See the module.
        progress: Show a bar.
        order: See :func:`~mmagic_cm.diffusion.solvers.dpm_solver_pp`.
        quadratic: Likewise; 'half' is diffusers'.
    """
    levels = [*_levels(sigmas), 0.0]
    points = dpm_solver_points(denoise, x, levels, order, quadratic)
    for point in tqdm(points, 'dpm_solver', len(levels) - 1, disable=not progress, leave=False):
        x = point
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

    def within(self, denoiser: Any) -> 'DiffusionSampler':
        """This sampler for a denoiser, whose noise range holds where no other was given.

        Raises:
            InputError: It starts or ends outside of that range.
        """
        NoiseRange.of(denoiser).narrowed(sigma_max=self.sigma_max)
        return self

    def __call__(
        self,
        denoise: Denoise,
        x: torch.Tensor,
        noise: Noise | None = None,
        progress: bool = False,
    ) -> torch.Tensor:
        """Draw images.

        Args:
            denoise: ``denoise(x, sigma)`` with sigma (N,); conditions of the network go by name.
            x: (N, C, H, W) at level ``sigma_max``, that is standard normal noise times it.
            noise: Draws further noise; default :func:`torch.randn_like`.
            progress: Show a bar over the steps.

        Returns:
            (N, C, H, W) in [-1, 1]; with ``clip_denoised=False`` as the network gives it.
        """
        if not self.clip_denoised:
            return self.sample(denoise, x, noise, progress)

        def clipped(x: torch.Tensor, sigma: torch.Tensor, **conditions: Any) -> torch.Tensor:
            output = denoise(x, sigma, **conditions)
            # A network of two levels gives the point at the next one, which is no picture yet.
            return output if 'next_sigma' in conditions else output.clamp(-1, 1)

        return self.sample(clipped, x, noise, progress).clamp(-1, 1)


@dataclass(kw_only=True)
class _InRange(Ranged, DiffusionSampler):
    """A sampler whose range of noise levels is that of the denoiser where it is not given."""

    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    clip_denoised: bool = True

    def __post_init__(self) -> None:
        self.keep(sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)


@DIFFUSION_SAMPLERS.register_module()
@dataclass
class OnestepSampler(_InRange):
    """One network evaluation at ``sigma_max``."""

    num_evaluations: ClassVar[int] = 1

    def settle(self, levels: NoiseRange) -> None:
        """See :class:`~mmagic_cm.diffusion.schedules.Ranged`."""
        super().settle(levels)
        check_levels([self.sigma_max])

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See :func:`sample_onestep`."""
        return sample_onestep(denoise, x, [self.sigma_max])


@DIFFUSION_SAMPLERS.register_module()
@dataclass(repr=False)
class MultistepSampler(_InRange):
    """Multistep consistency sampling (algorithm 1).

    The levels are given by indices into the Karras grid, as the paper's code publishes them, or
    directly.

    Args:
        sigma_min: The level that denoised images are taken to have, at which the grid ends;
            default: the denoiser's.
        sigma_max: Highest level of the grid; default: the denoiser's.
        rho: Curvature of the grid; default: the denoiser's.
        clip_denoised: Clamp each denoised image to [-1, 1].
        ts: Indices, increasing, ending with ``num_scales - 1`` (the end of the trajectory, which
            is not evaluated): (0, 22, 39) of 40 takes two evaluations.
        num_scales: Levels of the grid that ``ts`` counts.
        sigmas: The levels themselves, descending, instead of ``ts``: (80, 1.38).
    """

    ts: Sequence[int] | None = None
    num_scales: int = 40
    sigmas: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if (self.ts is None) == (self.sigmas is None):
            raise InputError(
                'MultistepSampler takes either ts or sigmas, for example ts=(0, 22, 39)'
            )
        self._levels = self.sigmas
        super().__post_init__()

    def __repr__(self) -> str:
        levels = ', '.join(f'{sigma:.4g}' for sigma in self.sigmas)
        return f'MultistepSampler(sigmas=({levels}))'

    def within(self, denoiser: Any) -> 'DiffusionSampler':
        """See :class:`DiffusionSampler`."""
        # No picture is drawn at sigma_min: diffusers' scheduler has 0 for a denoiser of EDM's kind.
        known = NoiseRange.of(denoiser)
        bound = copy.copy(self)
        bound.settle(replace(known, **self._given))
        known.narrowed(sigma_max=bound.sigma_max)
        return bound

    def settle(self, levels: NoiseRange) -> None:
        """See :class:`~mmagic_cm.diffusion.schedules.Ranged`."""
        super().settle(levels)
        sigmas = self._levels
        if sigmas is None:
            sigmas = self._levels_of(self.ts, levels.grid(self.num_scales))
        self.sigmas = tuple(check_levels(sigmas, self.sigma_min))
        self.sigma_max = self.sigmas[0]

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return len(self.sigmas)

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
class _GridSampler(_InRange):
    """A sampler that walks down a Karras grid; its settings are those of its function."""

    num_steps: int = 40
    function: ClassVar[Callable]
    settings: ClassVar[tuple[str, ...]] = ()

    def settle(self, levels: NoiseRange) -> None:
        """See :class:`~mmagic_cm.diffusion.schedules.Ranged`."""
        if levels.sigma_min == 0 and 'sigma_min' not in self._given:  # steps divide by levels
            levels = replace(levels, sigma_min=NoiseRange.sigma_min)
        super().settle(levels)
        if self.num_steps < 1:
            raise InputError(f'num_steps must be at least 1, not {self.num_steps}.')
        check_levels(self.grid())

    def grid(self) -> torch.Tensor:
        """The levels at which steps begin, (num_steps,)."""
        return karras_sigmas(self.num_steps, self.sigma_min, self.sigma_max, self.rho)

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return self.num_steps

    def sample(
        self, denoise: Denoise, x: torch.Tensor, noise: Noise | None, progress: bool
    ) -> torch.Tensor:
        """See the sampling function of the same name."""
        settings = {name: getattr(self, name) for name in self.settings}
        grid = self.grid()
        return type(self).function(denoise, x, grid, noise=noise, progress=progress, **settings)


@dataclass
class _ChurningSampler(_GridSampler):
    """One that may add noise on the way; see :func:`sample_heun`."""

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    settings = ('s_churn', 's_tmin', 's_tmax', 's_noise')

    def settle(self, levels: NoiseRange) -> None:
        """See :class:`~mmagic_cm.diffusion.schedules.Ranged`."""
        super().settle(levels)
        if not (0 <= self.s_churn < math.inf and 0 <= self.s_noise < math.inf):
            raise InputError(
                f's_churn and s_noise must be finite and not below 0, not {self.s_churn} and '
                f'{self.s_noise}.'
            )


@DIFFUSION_SAMPLERS.register_module()
class HeunSampler(_ChurningSampler):
    """Heun's method: 2 num_steps - 1 evaluations (the paper's teacher: 40 steps, 79)."""

    function = staticmethod(sample_heun)

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return 2 * self.num_steps - 1


@DIFFUSION_SAMPLERS.register_module()
@dataclass
class DPM2Sampler(_ChurningSampler):
    """DPM-Solver-2: 2 num_steps evaluations; with k-diffusion's midpoint one less.

    ``midpoint`` is 'rho3' (OpenAI's) or 'geometric' (k-diffusion's), see :func:`sample_dpm2`.
    """

    midpoint: str = 'rho3'
    function = staticmethod(sample_dpm2)
    settings = (*_ChurningSampler.settings, 'midpoint')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.midpoint not in MIDPOINTS:
            raise InputError(
                f'{self.midpoint!r} is no midpoint.{closest(self.midpoint, MIDPOINTS)}'
            )

    @property
    def num_evaluations(self) -> int:
        """Network evaluations an image."""
        return 2 * self.num_steps - (self.midpoint == 'geometric')


@DIFFUSION_SAMPLERS.register_module()
@dataclass
class DPMSolverSampler(_GridSampler):
    """DPM-Solver++: num_steps evaluations, and the least error of those that take as many.

    ``order`` is 1 to 3; ``quadratic`` is 'whole' or 'half', see :func:`sample_dpm_solver`.
    """

    order: int = 3
    quadratic: str = 'whole'
    function = staticmethod(sample_dpm_solver)
    settings = ('order', 'quadratic')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise InputError(f'order must be 1, 2 or 3, not {self.order!r}.')
        if self.quadratic not in QUADRATIC:
            raise InputError(f"quadratic must be 'whole' or 'half', not {self.quadratic!r}.")


@DIFFUSION_SAMPLERS.register_module()
class EulerSampler(_GridSampler):
    """Euler's method: num_steps evaluations."""

    function = staticmethod(sample_euler)


@DIFFUSION_SAMPLERS.register_module()
class EulerAncestralSampler(_GridSampler):
    """Ancestral sampling: num_steps evaluations."""

    function = staticmethod(sample_euler_ancestral)


@DIFFUSION_SAMPLERS.register_module()
class ProgressiveSampler(_GridSampler):
    """num_steps Euler steps to ``sigma_min``, as progressive distillation trains them."""

    function = staticmethod(sample_progressive)

    def grid(self) -> torch.Tensor:
        """The levels at which steps begin and end, (num_steps + 1,)."""
        return karras_sigmas(self.num_steps + 1, self.sigma_min, self.sigma_max, self.rho)
