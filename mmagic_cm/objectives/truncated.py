"""The second stage of truncated consistency models."""

from dataclasses import dataclass

import torch

from ..diffusion.noise_levels import truncated_student_quantiles
from ..diffusion.solvers import expand
from ..registry import MODELS
from .base import Draw
from .consistency import EasyConsistencyTuning


@dataclass(frozen=True)
class TruncatedDraw(Draw):
    """A :class:`Draw` some of whose levels were moved to the boundary.

    Attributes:
        boundary: (N,) bool, which of them.
    """

    boundary: torch.Tensor | None = None


@MODELS.register_module()
class TruncatedConsistencyTraining(EasyConsistencyTuning):
    """TCM, second stage (arXiv:2410.14895, section 4): consistency above a level ``boundary`` only.

    Below it the teacher answers in the student's place: the frozen network of the first stage,
    which is :class:`EasyConsistencyTuning` with ``ratio_limit=0.999, r_min=1e-6, truncate=True,
    c=1e-8``. Some images are put on the boundary, for all others hardly ask the teacher. (For
    ImageNet-64, q=4, ratio_limit=0.9961, c=0.06 and weighting='karras', which is 1 / c_out^2, in
    both stages.)

    Args:
        boundary: The level t'; ln sigma is drawn above it.
        q: See :class:`EasyConsistencyTuning`.
        ratio_limit: Likewise.
        c: Likewise.
        boundary_share: Share of a batch that is put on the boundary.
        boundary_weight: Of the mean of their losses, which is added to the mean of the others.
        p_mean: Of ln sigma, which is Student-t and truncated to [boundary, sigma_max].
        p_std: Its scale.
        df: Its degrees of freedom.
        r_min: See :class:`EasyConsistencyTuning`.
        first_stage: Likewise; the default is where the first training was at its ``ratio_limit``.
        num_stages: Likewise.
        **settings: Likewise.
    """

    needs_teacher = True
    teacher_dropout = True
    draw_type = TruncatedDraw

    def __init__(
        self,
        boundary: float = 1.0,
        q: float = 2.0,
        ratio_limit: float = 0.999,
        c: float = 1e-8,
        boundary_share: float = 0.25,
        boundary_weight: float = 0.1,
        p_mean: float = 0.0,
        p_std: float = 0.2,
        df: float = 0.01,
        r_min: float = 1e-6,
        first_stage: int = 10,
        num_stages: int = 1,
        **settings,
    ) -> None:
        self.boundary = boundary
        self.boundary_share = boundary_share
        self.boundary_weight = boundary_weight
        self.df = df
        super().__init__(
            q,
            num_stages,
            c=c,
            p_mean=p_mean,
            p_std=p_std,
            ratio_limit=ratio_limit,
            r_min=r_min,
            first_stage=first_stage,
            **settings,
        )

    def draw_sigmas(self, n, generator, device):
        """Student-t in ln sigma, within [boundary, sigma_max]."""
        shares = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        low, high = self.boundary, self.sigma_max
        sigmas = truncated_student_quantiles(shares, self.df, self.p_mean, self.p_std, low, high)
        return sigmas.float().clamp(low, high)

    def draw_levels(self, x0, step, total_steps, generator):
        """See :class:`Objective`."""
        sigma = self.draw_sigmas(len(x0), generator, x0.device)
        order = torch.randperm(len(x0), generator=generator, device=x0.device)
        marked = order < int(self.boundary_share * len(x0))
        sigma = sigma.masked_fill(marked, self.boundary + 1e-8)
        next_sigma = self.next_level(sigma, step, total_steps)
        return dict(sigma=sigma, next_sigma=next_sigma, boundary=marked)

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """D(x_r, r): the student's where r is at least the boundary, else the teacher's."""
        own = super().reference(target, teacher, x0, draw, labels, **conditions)
        x_next = self.next_point(teacher, x0, draw, labels, **conditions)
        frozen = teacher(x_next, draw.next_sigma, labels, **conditions)
        return torch.where(expand(draw.next_sigma, x0) >= self.boundary, own, frozen)

    def forward(self, online, x0, draw, labels=None, **roles):
        """See :class:`Objective`; the mean is that of the others + weight * that of the marked."""
        losses = super().forward(online, x0, draw, labels, **roles)
        marked, n = draw.boundary, len(x0)
        count = marked.sum(dtype=losses.dtype)
        # Of none there is no mean.
        weights = torch.where(
            marked, self.boundary_weight * n / count.clamp(min=1), n / (n - count).clamp(min=1)
        )
        return losses * weights
