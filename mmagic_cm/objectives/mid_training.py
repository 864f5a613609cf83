"""Consistency mid-training: whole trajectories of a teacher."""

import torch

from ..diffusion.schedules import NoiseRange, check_levels
from ..diffusion.solvers import dpm_solver_pp, per_sample
from ..registry import MODELS
from .base import Denoiser, Draw, Objective, Spec


@MODELS.register_module()
class ConsistencyMidTraining(Objective):
    """CMT (arXiv:2509.24526): each point of a teacher's trajectory is taken to its end.

    The teacher goes from x0 + sigma_max z to sigma_min by DPM-Solver++; the student is evaluated
    at all points but the last, as one batch of ``num_steps`` times the images, which is why the
    publication takes a sixteenth of its batch from the loader. It precedes consistency training.

    Args:
        distance: See :class:`Objective`; 'lpips' compares here at the images' own size.
        num_steps: Steps of a trajectory, even in ln sigma, and points that are learned from.
        quadratic: Of the solver, see :func:`~mmagic_cm.diffusion.solvers.dpm_solver_pp`; as
            published it is 'half'.
        **settings: See :class:`Objective`.
    """

    needs_teacher = True

    def __init__(
        self, distance: Spec = 'lpips', num_steps: int = 16, quadratic: str = 'whole', **settings
    ) -> None:
        if distance == 'lpips':
            distance = dict(type='lpips', resize=None)
        self.num_steps = num_steps
        self.quadratic = quadratic
        super().__init__(distance, **settings)

    def settle(self, levels: NoiseRange) -> None:
        """See :class:`~mmagic_cm.diffusion.schedules.Ranged`."""
        super().settle(levels)
        ratio, n = self.sigma_min / self.sigma_max, self.num_steps
        self.levels = check_levels([self.sigma_max * ratio ** (i / n) for i in range(n + 1)])

    def grid(self, step, total_steps, device='cpu'):
        """The levels of a trajectory, (num_steps + 1,)."""
        return torch.tensor(self.levels, device=device)

    def draw_levels(self, x0, step, total_steps, generator):
        """The ends of the trajectories, the same for all images."""
        return dict(
            sigma=per_sample(self.levels[0], x0), next_sigma=per_sample(self.levels[-1], x0)
        )

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """The teacher's trajectories, (num_steps + 1, N, C, H, W); what is not finite is 0."""
        points = dpm_solver_pp(
            lambda x, sigma: teacher(x, sigma, labels, **conditions),
            draw.at(draw.sigma, x0),
            self.levels,
            quadratic=self.quadratic,
        )
        return points.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def forward(
        self,
        online: Denoiser,
        x0: torch.Tensor,
        draw: Draw,
        labels: torch.Tensor | None = None,
        *,
        target: Denoiser | None = None,
        teacher: Denoiser | None = None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """See :class:`Objective`; the loss of an image is the mean over its points."""
        points = self._checked_reference(online, target, teacher, x0, draw, labels, **conditions)
        labels = None if labels is None else self._for_points(labels)
        conditions = {name: self._for_points(values) for name, values in conditions.items()}
        levels = torch.cat([per_sample(level, x0) for level in self.levels])
        sigmas, next_sigmas = levels[: -len(x0)], levels[len(x0) :]
        denoised = online(points[:-1].flatten(0, 1), sigmas, labels, **conditions)
        losses = self.distance(denoised, self._for_points(points[-1]))
        weights = self.weighting(sigmas, next_sigmas, self.sigma_data)
        return (losses * weights).unflatten(0, (self.num_steps, len(x0))).mean(0)

    def _for_points(self, values: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> (num_steps N, ...), the same for each point of a trajectory."""
        return values.repeat(self.num_steps, *[1] * (values.ndim - 1))
