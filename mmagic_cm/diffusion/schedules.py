"""Noise levels of the time grid, and curricula over the run of a training."""

import bisect
import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch

from ..errors import InputError
from ..registry import CURRICULA


def karras_sigmas(
    n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> torch.Tensor:
    """The grid of noise levels of Karras et al. (arXiv:2206.00364, eq. 5; section 2 here).

    Args:
        n: Number of levels, 1 to 1,000,000; one level is ``sigma_max``.
        sigma_min: The last level; 0 for a grid that no differential equation is solved on.
        sigma_max: The first level.
        rho: Curvature; larger spends more levels on little noise.

    Returns:
        float32 (n,), descending from ``sigma_max`` to ``sigma_min`` exactly, no trailing zero.
    """
    if not 1 <= n <= 10**6:
        raise InputError(f'A grid of noise levels has 1 to 1,000,000 of them, not {n}.')
    if not (0 <= sigma_min < sigma_max < math.inf and 0 < rho < math.inf):
        raise InputError(
            f'Need 0 <= sigma_min < sigma_max and 0 < rho, all finite, not {sigma_min}, '
            f'{sigma_max} and {rho}.'
        )
    # On the CPU even where models are built elsewhere: samplers look at these numbers.
    ramp = torch.linspace(0, 1, n, dtype=torch.float64, device='cpu')
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    # The powers are off by an ulp; the boundary condition wants the end points exact.
    sigmas[-1] = sigma_min
    sigmas[0] = sigma_max
    return sigmas.float()


@dataclass(frozen=True)
class NoiseRange:
    """The noise levels that a denoiser knows: it owns them, everybody else asks it.

    Attributes:
        sigma_min: The lowest; 0 of a denoiser with D(x, 0) = x.
        sigma_max: The highest, where there is only noise.
        rho: Curvature of the grid between them.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    @classmethod
    def of(cls, denoiser: Any) -> 'NoiseRange':
        """That of a denoiser; of a callable that does not say, the usual one."""
        return cls(*(getattr(denoiser, part.name, part.default) for part in fields(cls)))

    def narrowed(
        self,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        rho: float | None = None,
    ) -> 'NoiseRange':
        """A part of the range, with these ends where they are given.

        Raises:
            InputError: They lie outside of it.
        """
        low = self.sigma_min if sigma_min is None else sigma_min
        high = self.sigma_max if sigma_max is None else sigma_max
        if low < self.sigma_min or high > self.sigma_max:
            raise InputError(
                f'sigma_min = {low} and sigma_max = {high} are not within the levels of the '
                f'denoiser, {self.sigma_min} to {self.sigma_max}.'
            )
        return NoiseRange(low, high, self.rho if rho is None else rho)

    def grid(self, n: int) -> torch.Tensor:
        """Its :func:`karras_sigmas`, (n,)."""
        return karras_sigmas(n, self.sigma_min, self.sigma_max, self.rho)


class Ranged:
    """What has the noise range of a denoiser, but for what it was given itself.

    Attributes:
        sigma_min: Lowest level.
        sigma_max: Highest level.
        rho: Curvature of the grid.
    """

    sigma_min: float
    sigma_max: float
    rho: float

    def keep(self, **given: float | None) -> None:
        """Keep what was given; the rest is usual until a denoiser says otherwise."""
        self._given = {name: value for name, value in given.items() if value is not None}
        self.settle(NoiseRange(**self._given))

    def within(self, denoiser: Any) -> 'Ranged':
        """A copy for a denoiser, whose noise range holds where no other was given.

        Raises:
            InputError: What was given lies outside of that range.
        """
        bound = copy.copy(self)
        bound.settle(NoiseRange.of(denoiser).narrowed(**self._given))
        return bound

    def settle(self, levels: NoiseRange) -> None:
        """Take over a range, and refuse what makes no sense in it."""
        self.sigma_min, self.sigma_max, self.rho = levels.sigma_min, levels.sigma_max, levels.rho


def check_levels(sigmas: torch.Tensor | Sequence[float], sigma_min: float = 0.0) -> list[float]:
    """Noise levels as numbers that a sampler can walk down.

    Args:
        sigmas: (n,).
        sigma_min: What all of them must be above.

    Raises:
        InputError: They are no finite numbers that descend and stay above ``sigma_min``.
    """
    try:
        levels = [float(sigma) for sigma in sigmas]
    except (TypeError, ValueError) as error:
        raise InputError(f'sigmas must be numbers like (80, 1.38), not {sigmas!r}.') from error
    if not levels or not all(a > b for a, b in itertools.pairwise((math.inf, *levels, sigma_min))):
        raise InputError(f'sigmas must descend, all finite and above {sigma_min}, not {levels}.')
    return levels


class Curriculum(Protocol):
    """What an objective asks at each optimizer step."""

    def __call__(self, step: int, total_steps: int) -> tuple[float, int]:
        """``(target_ema, num_scales)`` at optimizer step ``step`` of ``total_steps``."""


@CURRICULA.register_module()
class FixedCurriculum:
    """The same target EMA rate and number of scales throughout (consistency distillation)."""

    def __init__(self, target_ema: float, num_scales: int) -> None:
        self.target_ema = target_ema
        self.num_scales = num_scales

    def __call__(self, step: int, total_steps: int) -> tuple[float, int]:
        """``(target_ema, num_scales)`` at ``step`` of ``total_steps``."""
        return self.target_ema, self.num_scales


@CURRICULA.register_module()
class GrowingCurriculum:
    """The paper's consistency training: N grows, and mu with it (appendix C).

    Args:
        start_scales: s_0.
        end_scales: s_1; the grid ends with ``end_scales + 1`` levels.
        start_ema: mu_0, the target EMA rate at ``start_scales``.
        adaptive_ema: ``exp(s_0 ln mu_0 / N)``; otherwise ``start_ema`` throughout.
    """

    def __init__(
        self, start_scales: int, end_scales: int, start_ema: float, adaptive_ema: bool = True
    ) -> None:
        self.start_scales = start_scales
        self.end_scales = end_scales
        self.start_ema = start_ema
        self.adaptive_ema = adaptive_ema
        self(0, 1)  # what cannot be computed is told now

    def __call__(self, step: int, total_steps: int) -> tuple[float, int]:
        """``(target_ema, num_scales)``; steps past ``total_steps`` stay at the end."""
        progress = min(step / total_steps, 1.0)
        first, last = self.start_scales**2, (self.end_scales + 1) ** 2
        scales = max(math.ceil(math.sqrt(progress * (last - first) + first) - 1), 1)
        if not self.adaptive_ema:
            return self.start_ema, scales + 1
        return math.exp(self.start_scales * math.log(self.start_ema) / scales), scales + 1


@CURRICULA.register_module()
class DoublingCurriculum:
    """iCT (arXiv:2310.14189, section 3.4): N doubles at equal intervals; no target EMA."""

    def __init__(self, start_scales: int = 10, end_scales: int = 1280) -> None:
        self.start_scales = start_scales
        self.end_scales = end_scales

    def __call__(self, step: int, total_steps: int) -> tuple[float, int]:
        """``(0.0, num_scales)`` at ``step`` of ``total_steps``."""
        num_stages = math.log2(self.end_scales // self.start_scales) + 1
        # At least one step a stage, for runs shorter than the number of stages.
        stage = step // max(math.floor(total_steps / num_stages), 1)
        return 0.0, min(self.start_scales * 2**stage, self.end_scales) + 1


@CURRICULA.register_module()
class HalvingCurriculum:
    """Progressive distillation: the number of steps halves; the last two stages take twice as long.

    Args:
        start_scales: Steps of the first student, a power of two.
        steps_per_stage: Optimizer steps until the number of steps halves.
    """

    def __init__(self, start_scales: int, steps_per_stage: int) -> None:
        if start_scales < 1 or start_scales & (start_scales - 1):
            raise InputError(f'start_scales must be a power of two, not {start_scales}.')
        self.start_scales = start_scales
        self.steps_per_stage = steps_per_stage
        num_stages = start_scales.bit_length()
        lengths = [steps_per_stage * (2 if i >= num_stages - 2 else 1) for i in range(num_stages)]
        self._ends = [*itertools.accumulate(lengths)]

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all stages."""
        return self._ends[-1]

    def stage(self, step: int) -> tuple[int, int, int]:
        """``(number, begin, end)`` of the stage of a step; the last one, of one step, goes on."""
        number = min(bisect.bisect(self._ends, step), len(self._ends) - 1)
        return number, self._ends[number - 1] if number else 0, self._ends[number]

    def __call__(self, step: int, total_steps: int) -> tuple[float, int]:
        """``(1.0, num_scales)``: the teacher of a stage does not follow the student."""
        return 1.0, self.start_scales >> self.stage(step)[0]
