"""Progressive distillation."""

from ..diffusion.schedules import HalvingCurriculum
from ..diffusion.solvers import euler_step, expand
from ..registry import MODELS
from .base import Objective, Spec


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
        return self._levels(self.curriculum(step, total_steps)[1] + 1, device)

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """The x0 from which a step of the student lands where two of the teacher do."""

        def denoise(x, sigma):
            return teacher(x, sigma, labels, **conditions)

        sigma, end = draw.sigma, draw.next_sigma
        # The level between them on a grid of twice as many, as exact as that grid.
        roots = sigma.double() ** (1 / self.rho) + end.double() ** (1 / self.rho)
        middle = ((roots / 2) ** self.rho).float()
        x = draw.at(sigma, x0)
        x_end = euler_step(denoise, euler_step(denoise, x, sigma, middle), middle, end)
        return x - expand(sigma / (end - sigma), x) * (x_end - x)
