"""What training minimises. Objectives call denoisers D(x, sigma, labels) and own nothing else.

``objective.draw(...)`` makes the random part of a step (noise, and noise levels or their indices);
``objective(...)`` computes one loss a sample from it. ``step`` counts optimizer steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..diffusion.distances import PseudoHuber
from ..diffusion.schedules import Curriculum, DoublingCurriculum, GrowingCurriculum, karras_sigmas
from ..diffusion.solvers import expand
from ..diffusion.weightings import discrete_lognormal_probs, lognormal_sigmas
from ..errors import InputError
from ..registry import CURRICULA, DISTANCES, MODELS, WEIGHTINGS, resolve

Denoiser = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
Spec = str | dict | Callable


@dataclass(frozen=True)
class Batch:
    """Clean images with what was drawn for them.

    Attributes:
        x0: (N, C, H, W) in [-1, 1].
        labels: (N,) int64, or None.
        noise: Standard normal, like x0.
        sigma: (N,) noise levels at which the online network is evaluated.
        indices: (N,) of ``sigma`` in the grid, where there is one.
        step: Optimizer steps done.
        total_steps: Optimizer steps of the whole run.
    """

    x0: torch.Tensor
    labels: torch.Tensor | None
    noise: torch.Tensor
    sigma: torch.Tensor
    indices: torch.Tensor | None
    step: int
    total_steps: int

    def at(self, sigma: torch.Tensor) -> torch.Tensor:
        """The noisy images x0 + sigma z at levels (N,)."""
        return self.x0 + self.noise * expand(sigma, self.x0)


class Objective:
    """The shape that all objectives share.

    Args:
        distance: 'l1', 'l2', 'l2-32', 'pseudo-huber', a config or a callable ``d(a, b) -> (N,)``.
        weighting: 'uniform', 'snr', 'snr+1', 'karras', 'truncated-snr', 'inverse-gap', a config
            or a callable.
        curriculum: Target EMA rate and number of scales over the run, where there are any.
        sigma_data: Standard deviation of the data, for weightings that want it.
        sigma_min: Lowest level of the grid.
        sigma_max: Highest level of the grid.
        rho: Curvature of the grid.

    Attributes:
        needs_target: Whether a target network is to be given.
        needs_teacher: Whether a teacher is to be given.
    """

    needs_target = False
    needs_teacher = False

    def __init__(
        self,
        distance: Spec = 'l2',
        weighting: Spec = 'uniform',
        curriculum: dict | Curriculum | None = None,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
    ) -> None:
        self.distance = resolve(DISTANCES, distance)
        self.weighting = resolve(WEIGHTINGS, weighting)
        self.curriculum: Curriculum | None = resolve(CURRICULA, curriculum)
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.rho = rho

    def grid(self, step: int, total_steps: int) -> torch.Tensor:
        """The noise levels (num_scales,) that the curriculum visits at this step."""
        _, num_scales = self.curriculum(step, total_steps)
        return karras_sigmas(num_scales, self.sigma_min, self.sigma_max, self.rho)

    def target_ema(self, step: int, total_steps: int) -> float:
        """The rate mu by which the target network follows; 0 copies the online network."""
        return self.curriculum(step, total_steps)[0] if self.curriculum else 0.0

    def active(self, step: int, total_steps: int) -> 'Objective':
        """The objective at work at this step: itself, but for :class:`StagedObjective`."""
        return self

    def draw(
        self,
        x0: torch.Tensor,
        step: int,
        total_steps: int,
        generator: torch.Generator | None = None,
    ) -> dict[str, torch.Tensor]:
        """The random part of a step: ``noise`` like x0, and ``sigmas`` or ``indices`` (N,)."""
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return dict(noise=noise, **self._draw_levels(x0, step, total_steps, generator))

    def noise_levels(
        self, draw: dict[str, torch.Tensor], step: int, total_steps: int
    ) -> torch.Tensor:
        """The noise levels (N,) of a draw, at which the online network is evaluated."""
        if 'sigmas' in draw:
            return draw['sigmas']
        indices = draw['indices']
        return self.grid(step, total_steps).to(indices.device)[indices]

    def __call__(
        self,
        online: Denoiser,
        x0: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        step: int,
        total_steps: int,
        target: Denoiser | None = None,
        teacher: Denoiser | None = None,
        **draw: torch.Tensor,
    ) -> torch.Tensor:
        """Losses of a batch.

        Args:
            online: The network that learns.
            x0: Clean images, (N, C, H, W) in [-1, 1].
            labels: (N,) int64, or None.
            step: Optimizer steps done.
            total_steps: Optimizer steps of the whole run.
            target: The target network, exactly where ``needs_target``.
            teacher: The teacher, exactly where ``needs_teacher``.
            **draw: What :meth:`draw` returns; what is left out is drawn here.

        Returns:
            (N,) weighted losses.
        """
        self._check_roles(target, teacher)
        if not draw.keys() <= {'noise', 'sigmas', 'indices'}:
            raise InputError(f'A draw is made of noise, sigmas or indices, not {sorted(draw)}.')
        if 'noise' not in draw or not {'sigmas', 'indices'} & set(draw):
            draw = {**self.draw(x0, step, total_steps), **draw}
        sigma = self.noise_levels(draw, step, total_steps)
        batch = Batch(x0, labels, draw['noise'], sigma, draw.get('indices'), step, total_steps)
        with torch.no_grad():
            next_sigma, reference = self._reference(batch, target or online, teacher)
        losses = self.distance(online(batch.at(sigma), sigma, labels), reference)
        return losses * self.weighting(sigma, next_sigma, self.sigma_data)

    def _check_roles(self, target: Denoiser | None, teacher: Denoiser | None) -> None:
        for role, given, needed in (
            ('target network', target, self.needs_target),
            ('teacher', teacher, self.needs_teacher),
        ):
            if (given is not None) != needed:
                verb = 'needs a' if needed else 'does not use the given'
                raise InputError(f'{type(self).__name__} {verb} {role}.')

    def _draw_levels(
        self, x0: torch.Tensor, step: int, total_steps: int, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _reference(
        self, batch: Batch, target: Denoiser, teacher: Denoiser | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the online output is compared with: images, after their noise level (N,)."""
        raise NotImplementedError


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

    def _draw_levels(self, x0, step, total_steps, generator):
        num_scales = self.curriculum(step, total_steps)[1]
        indices = torch.randint(num_scales - 1, (len(x0),), generator=generator, device=x0.device)
        return dict(indices=indices)

    def _reference(self, batch, target, teacher):
        grid = self.grid(batch.step, batch.total_steps).to(batch.x0.device)
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
        probs = discrete_lognormal_probs(self.grid(step, total_steps), self.p_mean, self.p_std)
        probs = probs.to(x0.device)
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
class StagedObjective(Objective):
    """Objectives one after another, each with its own count of steps.

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

    def _stage(self, step: int, total_steps: int) -> tuple[Objective, int, int]:
        """The objective at work, and the step and number of steps as it counts them."""
        begins = [0, *(round(end * total_steps) for end in self.ends)]
        for objective, begin, end in zip(self.objectives, begins, begins[1:], strict=False):
            if step < end:
                return objective, step - begin, end - begin
        return objective, step - begin, max(end - begin, 1)

    def active(self, step: int, total_steps: int) -> Objective:
        """The objective of the current stage."""
        return self._stage(step, total_steps)[0]

    def curriculum(self, step: int, total_steps: int) -> tuple[float, int]:
        """The curriculum of the current stage."""
        objective, step, total_steps = self._stage(step, total_steps)
        return objective.curriculum(step, total_steps)

    def target_ema(self, step: int, total_steps: int) -> float:
        """Of the current stage; stages without a target keep it equal to the online network."""
        objective, step, total_steps = self._stage(step, total_steps)
        return objective.target_ema(step, total_steps) if objective.needs_target else 0.0

    def draw(self, x0, step, total_steps, generator=None):
        """See :class:`Objective`."""
        objective, step, total_steps = self._stage(step, total_steps)
        return objective.draw(x0, step, total_steps, generator)

    def noise_levels(self, draw, step, total_steps):
        """See :class:`Objective`."""
        objective, step, total_steps = self._stage(step, total_steps)
        return objective.noise_levels(draw, step, total_steps)

    def __call__(
        self, online, x0, labels=None, *, step, total_steps, target=None, teacher=None, **draw
    ):
        """See :class:`Objective`; a stage is given only what it needs."""
        self._check_roles(target, teacher)
        objective, step, total_steps = self._stage(step, total_steps)
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
