"""The shape that all objectives share.

``objective.draw(...)`` makes the random part of a step (noise, and noise levels or their indices);
``objective(...)`` computes one loss a sample from it. ``step`` counts optimizer steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from ..diffusion.schedules import Curriculum, karras_sigmas
from ..diffusion.solvers import expand
from ..errors import InputError
from ..registry import CURRICULA, DISTANCES, WEIGHTINGS, resolve

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
        guidance: (N,) guidance scales of the teacher, where it is guided.
    """

    x0: torch.Tensor
    labels: torch.Tensor | None
    noise: torch.Tensor
    sigma: torch.Tensor
    indices: torch.Tensor | None
    step: int
    total_steps: int
    guidance: torch.Tensor | None = None

    def at(self, sigma: torch.Tensor) -> torch.Tensor:
        """The noisy images x0 + sigma z at levels (N,)."""
        return self.x0 + self.noise * expand(sigma, self.x0)


class Objective(ABC):
    """The shape that all objectives share.

    Args:
        distance: 'l1', 'l2', 'l2-32', 'pseudo-huber', 'lpips', a config or a callable
            ``d(a, b) -> (N,)``.
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
        draw_keys: What :meth:`draw` returns.
    """

    needs_target = False
    needs_teacher = False
    draw_keys = frozenset({'noise', 'sigmas'})

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

    @property
    def networks(self) -> list[nn.Module]:
        """Networks that it computes with and that do not learn (LPIPS); the model moves them."""
        return [self.distance] if isinstance(self.distance, nn.Module) else []

    def prepare(self) -> None:
        """Fetch and read the weights of these networks; called when a training begins."""
        for network in self.networks:
            if hasattr(network, 'fetch'):
                network.fetch()

    def grid(self, step: int, total_steps: int, device: torch.device | str = 'cpu') -> torch.Tensor:
        """The noise levels (num_scales,) that the curriculum visits at this step."""
        return self._karras_sigmas(self.curriculum(step, total_steps)[1], device)

    def _karras_sigmas(self, num_scales: int, device: torch.device | str) -> torch.Tensor:
        # Several times a step, and the same for thousands of them: made and copied once.
        return _levels(num_scales, self.sigma_min, self.sigma_max, self.rho, torch.device(device))

    def target_ema(self, step: int, total_steps: int) -> float:
        """The rate mu by which the target network follows; 0 copies the online network."""
        return self.curriculum(step, total_steps)[0] if self.curriculum else 0.0

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
        return self.grid(step, total_steps, indices.device)[indices]

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
        check_roles(self, target, teacher)
        if draw.keys() != self.draw_keys:
            unknown = sorted(draw.keys() - self.draw_keys)
            if unknown:
                name = type(self).__name__
                raise InputError(f'A draw of {name} is {sorted(self.draw_keys)}, not {unknown}.')
            draw = {**self.draw(x0, step, total_steps), **draw}
        batch = Batch(
            x0=x0,
            labels=labels,
            noise=draw['noise'],
            sigma=self.noise_levels(draw, step, total_steps),
            indices=draw.get('indices'),
            step=step,
            total_steps=total_steps,
            guidance=draw.get('guidance'),
        )
        sigma = batch.sigma
        with torch.inference_mode():
            next_sigma, reference = self._reference(
                batch, online if target is None else target, teacher
            )
        # What was made in inference mode cannot be kept for the backward pass; copies can.
        next_sigma, reference = next_sigma.clone(), reference.clone()
        losses = self.distance(online(batch.at(sigma), sigma, labels), reference)
        return losses * self.weighting(sigma, next_sigma, self.sigma_data)

    @abstractmethod
    def _draw_levels(
        self, x0: torch.Tensor, step: int, total_steps: int, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        """``sigmas`` (N,), or ``indices`` (N,) into the grid."""

    @abstractmethod
    def _reference(
        self, batch: Batch, target: Denoiser, teacher: Denoiser | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the online output is compared with: images, after their noise level (N,)."""


@lru_cache(maxsize=8)
def _levels(n: int, low: float, high: float, rho: float, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):
        return karras_sigmas(n, low, high, rho).to(device)


def check_roles(objective: Objective, target: Denoiser | None, teacher: Denoiser | None) -> None:
    """Refuse a target or teacher that an objective does not use, and miss none that it needs."""
    for role, given, needed in (
        ('target network', target, objective.needs_target),
        ('teacher', teacher, objective.needs_teacher),
    ):
        if (given is not None) != needed:
            verb = 'needs a' if needed else 'does not use the given'
            raise InputError(f'{type(objective).__name__} {verb} {role}.')
