"""Consistency distillation and training: the paper's, iCT and ECT."""

import torch

from ..diffusion.distances import PseudoHuber
from ..diffusion.guidance import guided
from ..diffusion.noise_levels import (
    discrete_lognormal_probs,
    lognormal_sigmas,
    truncated_lognormal_quantiles,
)
from ..diffusion.schedules import (
    Curriculum,
    DoublingCurriculum,
    FixedCurriculum,
    GrowingCurriculum,
)
from ..diffusion.solvers import euler_step, expand, heun_step
from ..errors import InputError, closest
from ..registry import MODELS
from .base import Denoiser, Draw, Objective, Spec

SOLVERS = {'heun': heun_step, 'euler': euler_step}


class PairObjective(Objective):
    """Self-consistency of two levels t > t': D(x_t, t) is compared with D(x_t', t')."""

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """D(x_t', t')."""
        x_next = self.next_point(teacher, x0, draw, labels, **conditions)
        return target(x_next, draw.next_sigma, labels, **conditions)

    def next_point(
        self,
        teacher: Denoiser | None,
        x0: torch.Tensor,
        draw: Draw,
        labels: torch.Tensor | None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """The point at t' on the trajectory through the noisy images."""
        # Without a teacher the denoised image is x0 itself, and Euler's step from x0 + sigma z
        # lands here exactly (theorem 2).
        return draw.at(draw.next_sigma, x0)


@MODELS.register_module()
class ConsistencyDistillation(PairObjective):
    """The paper's consistency distillation (algorithm 2): the teacher walks from t to t'.

    Args:
        distance: See :class:`Objective`.
        weighting: See :class:`Objective`.
        curriculum: See :class:`Objective`; default mu 0.95 and N 40, as on ImageNet-64 and LSUN.
        solver: 'heun' or 'euler', one step of it.
        guidance_scale: Of the teacher, see :func:`~mmagic_cm.diffusion.guidance.guided`: a number,
            ``(low, high)`` to draw one for each sample, or None: no guidance.
        **settings: See :class:`Objective`.
    """

    needs_target = True
    needs_teacher = True

    def __init__(
        self,
        distance: Spec = 'l2',
        weighting: Spec = 'uniform',
        curriculum: dict | Curriculum | None = None,
        solver: str = 'heun',
        guidance_scale: float | tuple[float, float] | None = None,
        **settings,
    ) -> None:
        curriculum = curriculum or FixedCurriculum(target_ema=0.95, num_scales=40)
        super().__init__(distance, weighting, curriculum, **settings)
        if solver not in SOLVERS:
            raise InputError(f'Unknown solver {solver!r}.{closest(solver, SOLVERS)}')
        self.solver = SOLVERS[solver]
        if isinstance(guidance_scale, int | float):
            guidance_scale = guidance_scale, guidance_scale
        self.guidance_range: tuple[float, float] | None = guidance_scale

    def draw_levels(self, x0, step, total_steps, generator):
        """See :class:`Objective`."""
        levels = super().draw_levels(x0, step, total_steps, generator)
        if self.guidance_range is None:
            return levels
        low, high = self.guidance_range
        share = torch.rand(len(x0), generator=generator, device=x0.device)
        return dict(levels, guidance=low + share * (high - low))

    def next_point(self, teacher, x0, draw, labels, **conditions):
        """Where one step of the teacher leads."""
        if draw.guidance is not None:
            teacher = guided(teacher, draw.guidance)
        return self.solver(
            lambda x, sigma: teacher(x, sigma, labels, **conditions),
            draw.at(draw.sigma, x0),
            draw.sigma,
            draw.next_sigma,
        )


@MODELS.register_module()
class ConsistencyTraining(PairObjective):
    """The paper's consistency training (algorithm 3). Arguments: :class:`Objective`."""

    needs_target = True

    def __init__(self, curriculum: dict | Curriculum | None = None, **settings) -> None:
        if curriculum is None:
            curriculum = GrowingCurriculum(start_scales=2, end_scales=150, start_ema=0.9)
        super().__init__(curriculum=curriculum, **settings)


@MODELS.register_module()
class ImprovedConsistencyTraining(PairObjective):
    """iCT (arXiv:2310.14189): no target EMA, pseudo-Huber, log-normal levels, 1/(t - t').

    Args:
        p_mean: Mean of ln sigma.
        p_std: Standard deviation of ln sigma.
        distance: See :class:`Objective`.
        weighting: See :class:`Objective`.
        curriculum: See :class:`Objective`; default N doubling from 10 to 1280.
        **settings: See :class:`Objective`.
    """

    def __init__(
        self,
        p_mean: float = -1.1,
        p_std: float = 2.0,
        distance: Spec = 'pseudo-huber',
        weighting: Spec = 'inverse-gap',
        curriculum: dict | Curriculum | None = None,
        **settings,
    ) -> None:
        curriculum = curriculum or DoublingCurriculum()
        super().__init__(distance, weighting, curriculum, **settings)
        self.p_mean = p_mean
        self.p_std = p_std

    def draw_intervals(self, grid, n, generator):
        """As a log-normal has it."""
        probs = discrete_lognormal_probs(grid, self.p_mean, self.p_std)
        return probs.multinomial(n, replacement=True, generator=generator)


@MODELS.register_module()
class EasyConsistencyTuning(PairObjective):
    """ECT (arXiv:2406.14548): continuous levels t, the target at r(t) < t, r nears t in stages.

    r = t (1 - (1 - ratio) (1 + k sigmoid(-b t))) with ratio = 1 - q^-(stage + 1), at least 0; where
    r is 0 the target is x0. The last four arguments make it the first stage of TCM, see
    :class:`~mmagic_cm.objectives.TruncatedConsistencyTraining`.

    Args:
        q: Factor by which the gap shrinks each stage.
        num_stages: Equal parts of the run. (q=256 with one stage is the paper's one-hour run.)
        k: Widens the gap at little noise.
        b: Where that begins.
        c: Of the pseudo-Huber distance, in which the paper's code uses 0; None: that of iCT.
        p_mean: Mean of ln sigma.
        p_std: Standard deviation of ln sigma.
        weighting: See :class:`Objective`.
        ratio_limit: What the ratio is at most.
        r_min: What r is at least.
        truncate: Restrict the distribution of sigma to [sigma_min, sigma_max].
        first_stage: The stage at which the count begins.
        **settings: See :class:`Objective`.
    """

    def __init__(
        self,
        q: float = 2.0,
        num_stages: int = 8,
        k: float = 8.0,
        b: float = 1.0,
        c: float | None = None,
        p_mean: float = -1.1,
        p_std: float = 2.0,
        weighting: Spec = 'inverse-gap',
        ratio_limit: float = 1.0,
        r_min: float = 0.0,
        truncate: bool = False,
        first_stage: int = 0,
        **settings,
    ) -> None:
        settings.setdefault('distance', PseudoHuber(c))
        super().__init__(weighting=weighting, **settings)
        self.q = q
        self.num_stages = num_stages
        self.k = k
        self.b = b
        self.p_mean = p_mean
        self.p_std = p_std
        self.ratio_limit = ratio_limit
        self.r_min = r_min
        self.truncate = truncate
        self.first_stage = first_stage

    def next_level(self, sigma: torch.Tensor, step: int, total_steps: int) -> torch.Tensor:
        """The level r(t) of the target, (N,)."""
        stage = self.first_stage + min(step * self.num_stages // total_steps, self.num_stages - 1)
        gap = max(self.q ** -(stage + 1), 1 - self.ratio_limit)
        gaps = gap * (1 + self.k * torch.sigmoid(-self.b * sigma))
        return (sigma * (1 - gaps)).clamp(min=self.r_min)

    def draw_levels(self, x0, step, total_steps, generator):
        """See :class:`Objective`."""
        sigma = self.draw_sigmas(len(x0), generator, x0.device)
        return dict(sigma=sigma, next_sigma=self.next_level(sigma, step, total_steps))

    def draw_sigmas(
        self, n: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        """Levels t, (n,)."""
        if not self.truncate:
            return lognormal_sigmas(n, self.p_mean, self.p_std, generator, device)
        shares = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        ends = self.sigma_min, self.sigma_max
        sigmas = truncated_lognormal_quantiles(shares, self.p_mean, self.p_std, *ends)
        return sigmas.float().clamp(*ends)

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """D(x_r, r), or x0 where r is 0."""
        denoised = super().reference(target, teacher, x0, draw, labels, **conditions)
        return torch.where(expand(draw.next_sigma, denoised) > 0, denoised, x0)
