"""Consistency models in continuous time: sCT and sCD (arXiv:2410.11081)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd import forward_ad

from ..diffusion.noise_levels import lognormal_sigmas
from ..diffusion.solvers import expand
from ..errors import InputError, closest
from ..registry import MODELS
from .base import Denoiser, Draw, Objective, check_roles

TANGENT_NORMS = ('l2', 'rms')


@dataclass(frozen=True)
class TangentDraw(Draw):
    """A draw that knows how far the warm-up of the tangent is.

    Attributes:
        warmup: r in [0, 1], by which the derivative of the network is multiplied.
    """

    warmup: float = 1.0


def jvp(
    function: Callable[..., torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    directions: tuple[torch.Tensor, ...],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a function returns, and its derivative along directions of its inputs.

    By dual numbers themselves: under ``torch.func.jvp`` dropout draws other masks than without.
    """
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, inputs, directions)
        value, derivative = forward_ad.unpack_dual(function(*duals))
    return value, torch.zeros_like(value) if derivative is None else derivative


@MODELS.register_module()
class ContinuousConsistencyTraining(Objective):
    """sCT: the output moves against its own derivative along the trajectory, which is to be 0.

    The paper speaks of angles t = arctan(sigma / sigma_data), of x_t = cos(t) x, and of the network
    F in D = cos(t) x_t - sin(t) sigma_data F. All of that is a denoiser in EDM's parameterization
    (``parameterization='edm'``; its network is -F), which is what this expects to train. The
    network is to be told the level by a smooth ``c_noise``, 'trigflow' or 'edm': by the derivative
    of 'adm', 250 ln sigma, it learns nothing.

    Args:
        p_mean: Mean of ln sigma.
        p_std: Standard deviation of ln sigma.
        warmup_steps: Optimizer steps over which the network's derivative comes in; before that it
            is diffusion training.
        tangent_norm: By what the tangent of a sample is divided (plus 0.1): 'l2', its norm, as in
            the paper, or 'rms', the root of its mean square.
        prior_weighting: Multiply losses by 1 / (sigma_data tan t), which is 1 / sigma.
        adaptive_weighting: Learn by what else to multiply them: a network of the noise level, which
            is trained and saved with the model, not averaged, and not needed to sample.

    Raises:
        InputError: There is no such ``tangent_norm``, or the denoiser tells its network 250 ln
            sigma.

    Attributes:
        figures: ``nonfinite_tangents``, the share of the last batch whose tangent was not finite
            and counted as 0.
    """

    draw_type = TangentDraw

    def __init__(
        self,
        p_mean: float = -1.0,
        p_std: float = 1.4,
        warmup_steps: int = 10000,
        tangent_norm: str = 'l2',
        prior_weighting: bool = True,
        adaptive_weighting: bool = True,
    ) -> None:
        super().__init__()
        if tangent_norm not in TANGENT_NORMS:
            known = closest(tangent_norm, TANGENT_NORMS)
            raise InputError(f'There is no tangent_norm {tangent_norm!r}.{known}')
        self.p_mean = p_mean
        self.p_std = p_std
        self.warmup_steps = warmup_steps
        self.tangent_norm = tangent_norm
        self.prior_weighting = prior_weighting
        self.log_weight = None
        if adaptive_weighting:
            self.log_weight = nn.Sequential(nn.Linear(1, 128), nn.SiLU(), nn.Linear(128, 1))
            nn.init.zeros_(self.log_weight[2].weight)
            nn.init.zeros_(self.log_weight[2].bias)

    def within(self, denoiser):
        """See :class:`Objective`."""
        if getattr(denoiser, 'c_noise', None) == 'adm':
            raise InputError(
                f'{type(self).__name__} follows derivatives by the noise level, and learns nothing '
                "of a network that is told 250 ln sigma: set model.denoiser.c_noise to 'trigflow' "
                "or 'edm'."
            )
        return super().within(denoiser)

    def draw_levels(self, x0, step, total_steps, generator):
        """See :class:`Objective`; the lower level is the limit, where both are the same."""
        sigma = lognormal_sigmas(len(x0), self.p_mean, self.p_std, generator, x0.device)
        warmup = step / self.warmup_steps if step < self.warmup_steps else 1.0
        return dict(sigma=sigma, next_sigma=sigma, warmup=warmup)

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """The images to which the trajectory points, and to which the warm-up compares."""
        return x0

    @torch.no_grad()
    def tangent(
        self,
        online: Denoiser,
        x0: torch.Tensor,
        draw: TangentDraw,
        labels: torch.Tensor | None = None,
        *,
        teacher: Denoiser | None = None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """The tangent g before it is normalised, (N, C, H, W).

        With v the velocity of x_t, F without gradient and J its derivative along
        (cos t sin t v / sigma_data, cos t sin t) in (x_t / sigma_data, t), it is

            g = -cos^2 t (sigma_data F - v) - r (cos t sin t x_t + sigma_data J).

        At r = 0 that is cos^2 t / sin t (D - x0) (of sCD, D minus the teacher's), and at r = 1
        cos t times the derivative of D by t, in which nothing is divided by sin t: F itself, which
        at low levels is a small difference, is not needed.
        """
        x, sigma = draw.at(draw.sigma, x0), draw.sigma
        reference = self.reference(online, teacher, x0, draw, labels, **conditions)
        slope = draw.noise if teacher is None else (x - reference) / expand(sigma, x)
        # Half precision would leave nothing of the small differences that a derivative sums up.
        with torch.autocast(x.device.type, enabled=False):
            denoised, derivative = jvp(
                lambda x, sigma: online(x, sigma, labels, **conditions),
                (x, sigma),
                (slope, torch.ones_like(sigma)),
            )
        length = (sigma**2 + self.sigma_data**2).sqrt()
        cos, sin = expand(self.sigma_data / length, x), expand(sigma / length, x)
        # d sigma / dt = sigma_data / cos^2 t.
        consistency = derivative * (self.sigma_data / cos)
        return torch.lerp(cos**2 / sin * (denoised - reference), consistency, draw.warmup)

    def forward(self, online, x0, draw, labels=None, *, target=None, teacher=None, **conditions):
        """See :class:`Objective`."""
        check_roles(self, target, teacher)
        tangent = self.tangent(online, x0, draw, labels, teacher=teacher, **conditions)
        size = tangent.flatten(1).norm(dim=1)
        if self.tangent_norm == 'rms':
            size = size / tangent[0].numel() ** 0.5
        finite = size.isfinite()
        self.figures = dict(nonfinite_tangents=1 - finite.float().mean())
        tangent = torch.where(expand(finite, x0), tangent / expand(size + 0.1, x0), 0.0)

        denoised = online(draw.at(draw.sigma, x0), draw.sigma, labels, **conditions)
        # F - F^-: zero but for its gradient, in whatever precision the network computes.
        c_out = draw.sigma * self.sigma_data / (draw.sigma**2 + self.sigma_data**2).sqrt()
        moved = (denoised.detach() - denoised) / expand(c_out, x0)
        losses = (moved - tangent).square().flatten(1).mean(1)
        if self.prior_weighting:
            losses = losses / draw.sigma
        if self.log_weight is None:
            return losses
        level = (draw.sigma.log() - self.p_mean) / self.p_std
        with torch.autocast(x0.device.type, enabled=False):
            log_weight = self.log_weight(level.float()[:, None])[:, 0]
        return losses * log_weight.exp() - log_weight


@MODELS.register_module()
class ContinuousConsistencyDistillation(ContinuousConsistencyTraining):
    """sCD: as sCT, along the trajectories of a teacher. Arguments: those of sCT."""

    needs_teacher = True

    def reference(self, target, teacher, x0, draw, labels, **conditions):
        """What the teacher takes for the images."""
        return teacher(draw.at(draw.sigma, x0), draw.sigma, labels, **conditions)
