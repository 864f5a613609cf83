"""What training minimises. Objectives call denoisers D(x, sigma, labels) and own nothing else."""

from collections.abc import Sequence

import torch

from ..diffusion.distances import PseudoHuber
from ..diffusion.guidance import guided
from ..diffusion.schedules import (
    Curriculum,
    DoublingCurriculum,
    FixedCurriculum,
    GrowingCurriculum,
    HalvingCurriculum,
)
from ..diffusion.solvers import euler_step, expand, heun_step
from ..diffusion.weightings import discrete_lognormal_probs, lognormal_sigmas
from ..errors import InputError, closest
from ..registry import MODELS
from .base import Batch, Denoiser, Objective, Spec, check_roles

SOLVERS = {'heun': heun_step, 'euler': euler_step}


@MODELS.register_module()
class DenoisingScoreMatching(Objective):
    """EDM's denoising loss (arXiv:2206.00364, eq. 2 and table 1): the output is compared with x0.

    Args:
        p_mean: Mean of ln sigma.
        p_std: Standard deviation of ln sigma.
        weighting: See :class:`Objective`.
        **settings: See :class:`Objective`.
    """

    def __init__(
        self, p_mean: float = -1.2, p_std: float = 1.2, weighting: Spec = 'karras', **settings
    ) -> None:
        super().__init__(weighting=weighting, **settings)
        self.p_mean = p_mean
        self.p_std = p_std

    def _draw_levels(self, x0, step, total_steps, generator):
        sigmas = lognormal_sigmas(len(x0), self.p_mean, self.p_std, generator, x0.device)
        return dict(sigmas=sigmas)

    def _reference(self, batch, target, teacher):
        return torch.zeros_like(batch.sigma), batch.x0


class PairObjective(Objective):
    """Self-consistency of neighbouring levels t > t' of the grid: D(x_t, t) against D(x_t', t')."""

    draw_keys = frozenset({'noise', 'indices'})

    def _draw_levels(self, x0, step, total_steps, generator):
        num_scales = self.curriculum(step, total_steps)[1]
        indices = torch.randint(num_scales - 1, (len(x0),), generator=generator, device=x0.device)
        return dict(indices=indices)

    def _reference(self, batch, target, teacher):
        grid = self.grid(batch.step, batch.total_steps, batch.x0.device)
        next_sigma = grid[batch.indices + 1]
        x_next = self._previous_point(batch, next_sigma, teacher)
        return next_sigma, target(x_next, next_sigma, batch.labels)

    def _previous_point(
        self, batch: Batch, next_sigma: torch.Tensor, teacher: Denoiser | None
    ) -> torch.Tensor:
        """The point at ``next_sigma`` on the trajectory through the noisy images."""
        # Without a teacher the denoised image is x0 itself, and Euler's step from x0 + sigma z
        # lands here exactly (theorem 2).
        return batch.at(next_sigma)


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
        if guidance_scale is not None:
            self.draw_keys = self.draw_keys | {'guidance'}

    def _draw_levels(self, x0, step, total_steps, generator):
        levels = super()._draw_levels(x0, step, total_steps, generator)
        if self.guidance_range is None:
            return levels
        low, high = self.guidance_range
        share = torch.rand(len(x0), generator=generator, device=x0.device)
        return dict(levels, guidance=low + share * (high - low))

    def _previous_point(self, batch, next_sigma, teacher):
        if batch.guidance is not None:
            teacher = guided(teacher, batch.guidance)
        return self.solver(
            lambda x, sigma: teacher(x, sigma, batch.labels),
            batch.at(batch.sigma),
            batch.sigma,
            next_sigma,
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

    def _draw_levels(self, x0, step, total_steps, generator):
        grid = self.grid(step, total_steps, x0.device)
        probs = discrete_lognormal_probs(grid, self.p_mean, self.p_std)
        return dict(indices=probs.multinomial(len(x0), replacement=True, generator=generator))


@MODELS.register_module()
class EasyConsistencyTuning(Objective):
    """ECT (arXiv:2406.14548): continuous levels t, the target at r(t) < t, r nears t in stages.

    r = t (1 - (1 + k sigmoid(-b t)) / q^(stage + 1)), at least 0; where r is 0 the target is x0.

    Args:
        q: Factor by which the gap shrinks each stage.
        num_stages: Equal parts of the run. (q=256 with one stage is the paper's one-hour run.)
        k: Widens the gap at little noise.
        b: Where that begins.
        c: Of the pseudo-Huber distance, in which the paper's code uses 0; None: that of iCT.
        p_mean: Mean of ln sigma.
        p_std: Standard deviation of ln sigma.
        weighting: See :class:`Objective`.
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

    def next_level(self, sigma: torch.Tensor, step: int, total_steps: int) -> torch.Tensor:
        """The level r(t) of the target, (N,)."""
        stage = min(step * self.num_stages // total_steps, self.num_stages - 1)
        gap = (1 + self.k * torch.sigmoid(-self.b * sigma)) / self.q ** (stage + 1)
        return (sigma * (1 - gap)).clamp(min=0)

    def _draw_levels(self, x0, step, total_steps, generator):
        sigmas = lognormal_sigmas(len(x0), self.p_mean, self.p_std, generator, x0.device)
        return dict(sigmas=sigmas)

    def _reference(self, batch, target, teacher):
        next_sigma = self.next_level(batch.sigma, batch.step, batch.total_steps)
        denoised = target(batch.at(next_sigma), next_sigma, batch.labels)
        return next_sigma, torch.where(expand(next_sigma, denoised) > 0, denoised, batch.x0)


@MODELS.register_module()
class ProgressiveDistillation(Objective):
    """Progressive distillation (arXiv:2202.00512): one step of the student is two of the teacher.

    The teacher is the student of the stage before: ``ProgressiveDistillationHook`` replaces it.

    Args:
        distance: See :class:`Objective`.
        weighting: See :class:`Objective`.
        curriculum: Default 4,096 steps, halved every 50,000 optimizer steps.
        **settings: See :class:`Objective`.
    """

    needs_teacher = True
    draw_keys = frozenset({'noise', 'indices'})

    def __init__(
        self,
        distance: Spec = 'l2',
        weighting: Spec = 'truncated-snr',
        curriculum: dict | HalvingCurriculum | None = None,
        **settings,
    ) -> None:
        curriculum = curriculum or HalvingCurriculum(start_scales=4096, steps_per_stage=50000)
        super().__init__(distance, weighting, curriculum, **settings)

    def grid(self, step, total_steps, device='cpu'):
        """The levels (N + 1,) between which the student takes its N steps."""
        return self._grid_with_midpoints(step, total_steps, device)[::2]

    def _grid_with_midpoints(
        self, step: int, total_steps: int, device: torch.device | str
    ) -> torch.Tensor:
        return self._karras_sigmas(2 * self.curriculum(step, total_steps)[1] + 1, device)

    def _draw_levels(self, x0, step, total_steps, generator):
        num_steps = self.curriculum(step, total_steps)[1]
        indices = torch.randint(num_steps, (len(x0),), generator=generator, device=x0.device)
        return dict(indices=indices)

    def _reference(self, batch, target, teacher):
        grid = self._grid_with_midpoints(batch.step, batch.total_steps, batch.x0.device)
        sigma = batch.sigma
        middle, end = grid[2 * batch.indices + 1], grid[2 * batch.indices + 2]

        def denoise(x, sigma):
            return teacher(x, sigma, batch.labels)

        x = batch.at(sigma)
        x_end = euler_step(denoise, euler_step(denoise, x, sigma, middle), middle, end)
        # The x0 from which one Euler step of the student, too, lands at x_end.
        return end, x - expand(sigma / (end - sigma), x) * (x_end - x)


@MODELS.register_module()
class StagedObjective:
    """Objectives one after another, each with its own count of steps; called as they are.

    Args:
        stages: ``(end, objective)`` with ``end`` the share of the run at which the stage ends,
            rising to 1.0.

    Example:
        >>> StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, EasyConsistencyTuning())])
    """

    def __init__(self, stages: Sequence[tuple[float, dict | Objective]]) -> None:
        ends = [end for end, _ in stages]
        if not ends or ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1.0:
            raise InputError(f'The ends of the stages must rise from above 0 to 1.0, not {ends}.')
        self.ends = ends
        self.objectives = [
            MODELS.build(objective) if isinstance(objective, dict) else objective
            for _, objective in stages
        ]
        self.needs_target = any(objective.needs_target for objective in self.objectives)
        self.needs_teacher = any(objective.needs_teacher for objective in self.objectives)
        self.networks = [network for stage in self.objectives for network in stage.networks]

    def prepare(self) -> None:
        """See :class:`Objective`."""
        for objective in self.objectives:
            objective.prepare()

    def stage(self, step: int, total_steps: int) -> tuple[Objective, int, int]:
        """The objective at work, and the step and number of steps as it counts them."""
        begins = [0, *(round(end * total_steps) for end in self.ends)]
        for objective, begin, end in zip(self.objectives, begins, begins[1:], strict=False):
            if step < end:
                return objective, step - begin, end - begin
        return objective, step - begin, max(end - begin, 1)

    def curriculum(self, step: int, total_steps: int) -> tuple[float, int]:
        """The curriculum of the current stage."""
        objective, step, total_steps = self.stage(step, total_steps)
        return objective.curriculum(step, total_steps)

    def target_ema(self, step: int, total_steps: int) -> float:
        """Of the current stage; stages without a target keep it equal to the online network."""
        objective, step, total_steps = self.stage(step, total_steps)
        return objective.target_ema(step, total_steps) if objective.needs_target else 0.0

    def draw(self, x0, step, total_steps, generator=None):
        """See :class:`Objective`."""
        objective, step, total_steps = self.stage(step, total_steps)
        return objective.draw(x0, step, total_steps, generator)

    def noise_levels(self, draw, step, total_steps):
        """See :class:`Objective`."""
        objective, step, total_steps = self.stage(step, total_steps)
        return objective.noise_levels(draw, step, total_steps)

    def __call__(
        self, online, x0, labels=None, *, step, total_steps, target=None, teacher=None, **draw
    ):
        """See :class:`Objective`; a stage is given only what it needs."""
        check_roles(self, target, teacher)
        objective, step, total_steps = self.stage(step, total_steps)
        return objective(
            online,
            x0,
            labels,
            step=step,
            total_steps=total_steps,
            target=target if objective.needs_target else None,
            teacher=teacher if objective.needs_teacher else None,
            **draw,
        )
