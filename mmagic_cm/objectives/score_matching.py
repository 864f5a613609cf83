"""What trains a teacher: EDM's denoising loss."""

import torch

from ..diffusion.noise_levels import lognormal_sigmas
from ..registry import MODELS
from .base import Objective, Spec


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

    def draw_levels(self, x0, step, total_steps, generator):
        """See :class:`Objective`."""
        sigma = lognormal_sigmas(len(x0), self.p_mean, self.p_std, generator, x0.device)
        return dict(sigma=sigma, next_sigma=torch.zeros_like(sigma))

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """The images."""
        return x0
