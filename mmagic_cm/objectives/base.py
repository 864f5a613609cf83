"""The shape that all objectives share.

``objective.draw(...)`` makes the random part of a step, a :class:`Draw`; ``objective(...)``
computes one loss a sample from it. ``step`` counts optimizer steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..diffusion.schedules import Curriculum, NoiseRange, Ranged
from ..diffusion.solvers import expand
from ..errors import InputError
from ..registry import CURRICULA, DISTANCES, WEIGHTINGS, resolve

Denoiser = Callable[..., torch.Tensor]
Spec = str | dict | Callable


@dataclass(frozen=True)
class Draw:
    """The random part of a step, made once and handed through.

    An objective that needs more returns a subclass.

    Attributes:
        noise: Standard normal, like the images.
        sigma: (N,) noise levels at which the online network is evaluated.
        next_sigma: (N,) lower levels, at which it is told what it should have said; 0: the images.
        guidance: (N,) guidance scales of the teacher, where it is guided.
        stage: Which of the objectives of a :class:`StagedObjective` is at work.
    """

    noise: torch.Tensor
    sigma: torch.Tensor
    next_sigma: torch.Tensor
    guidance: torch.Tensor | None = None
    stage: int = 0

    def at(self, sigma: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        """The noisy images x0 + sigma z at levels (N,)."""
        return x0 + self.noise * expand(sigma, x0)


class WithFrozen(nn.Module):
    """A module with networks that move with it, and are no part of its parameters and state.

    So they are neither optimised nor saved nor averaged, and ``train()`` does not reach them.

    Attributes:
        frozen: These networks.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # In a list they are no submodules.
        self.frozen: list[nn.Module] = []

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        for part in self.frozen:
            part._apply(fn)
        return super()._apply(fn, recurse)


class Objective(WithFrozen, Ranged, ABC):
    """The shape that all objectives share.

    What learns in an objective, such as a weighting's head, is a submodule or parameter of it: it
    is optimised, saved and resumed with the model, and not needed to sample.

    Args:
        distance: 'l1', 'l2', 'l2-32', 'pseudo-huber', 'lpips', a config or a callable
            ``d(a, b) -> (N,)``; a network (LPIPS) stays as it is.
        weighting: 'uniform', 'snr', 'snr+1', 'karras', 'truncated-snr', 'inverse-gap', a config
            or a callable.
        curriculum: Target EMA rate and number of scales over the run, where there are any.
        sigma_data: Standard deviation of the data, for weightings that want it; default: the
            denoiser's, which may not be contradicted.
        sigma_min: Lowest level of the grid; default: the denoiser's.
        sigma_max: Highest level of the grid; default: the denoiser's.
        rho: Curvature of the grid; default: the denoiser's.

    Attributes:
        needs_target: Whether a target network is to be given.
        needs_teacher: Whether a teacher is to be given.
        teacher_dropout: Whether the teacher keeps its dropout, with the online network's masks.
        draw_type: The :class:`Draw` that it makes.
        distance: What compares two sets of images, (N,).
        figures: What the last call has to say in the log, by name, each a tensor on the device;
            no name may contain 'loss'.
    """

    needs_target = False
    needs_teacher = False
    teacher_dropout = False
    draw_type: type[Draw] = Draw

    def __init__(
        self,
        distance: Spec = 'l2',
        weighting: Spec = 'uniform',
        curriculum: dict | Curriculum | None = None,
        sigma_data: float | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        rho: float | None = None,
    ) -> None:
        super().__init__()
        # Past nn.Module, which would make a submodule of it.
        object.__setattr__(self, 'distance', resolve(DISTANCES, distance))
        self.frozen = [self.distance] if isinstance(self.distance, nn.Module) else []
        self.weighting = resolve(WEIGHTINGS, weighting)
        self.curriculum: Curriculum | None = resolve(CURRICULA, curriculum)
        self._sigma_data = sigma_data
        self.sigma_data = 0.5 if sigma_data is None else sigma_data
        self.keep(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        self.figures: dict[str, torch.Tensor] = {}

    def within(self, denoiser: Any) -> 'Objective':
        """This objective for a denoiser, whose noise range holds where no other was given.

        Raises:
            InputError: It lies outside of that range, or has another ``sigma_data``.
        """
        bound = super().within(denoiser)
        bound.sigma_data = getattr(denoiser, 'sigma_data', self.sigma_data)
        if self._sigma_data not in (None, bound.sigma_data):
            raise InputError(
                f'sigma_data is {bound.sigma_data} for the denoiser, which says it for all, and '
                f'{self._sigma_data} for {type(self).__name__}.'
            )
        return bound

    def prepare(self) -> None:
        """Fetch and read the weights of networks that do not learn; before a training begins."""
        for network in self.frozen:
            if hasattr(network, 'fetch'):
                network.fetch()

    def at_work(self, step: int, total_steps: int) -> tuple['Objective', int, int]:
        """The objective at work, the step and number of steps as it counts them: see stages."""
        return self, step, total_steps

    def grid(self, step: int, total_steps: int, device: torch.device | str = 'cpu') -> torch.Tensor:
        """The noise levels (num_scales,) that the curriculum visits at this step."""
        return self._levels(self.curriculum(step, total_steps)[1], device)

    def _levels(self, n: int, device: torch.device | str) -> torch.Tensor:
        # The same for thousands of steps: made and copied once.
        levels = NoiseRange(self.sigma_min, self.sigma_max, self.rho)
        return _grid(levels, n, torch.device(device))

    def target_ema(self, step: int, total_steps: int) -> float:
        """The rate mu by which the target network follows; 0 copies the online network."""
        return self.curriculum(step, total_steps)[0] if self.curriculum else 0.0

    def draw(
        self,
        x0: torch.Tensor,
        step: int,
        total_steps: int,
        generator: torch.Generator | None = None,
    ) -> Draw:
        """The random part of a step, for images (N, C, H, W)."""
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return self.draw_type(noise, **self.draw_levels(x0, step, total_steps, generator))

    def draw_levels(
        self, x0: torch.Tensor, step: int, total_steps: int, generator: torch.Generator | None
    ) -> dict[str, Any]:
        """What a draw holds beside its noise; default: neighbours on the grid."""
        grid = self.grid(step, total_steps, x0.device)
        indices = self.draw_intervals(grid, len(x0), generator)
        return dict(sigma=grid[indices], next_sigma=grid[indices + 1])

    def draw_intervals(
        self, grid: torch.Tensor, n: int, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Which intervals of a grid, (n,); default: uniformly."""
        return torch.randint(len(grid) - 1, (n,), generator=generator, device=grid.device)

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
        """Losses of a batch.

        Args:
            online: The denoiser that learns.
            x0: Clean images, (N, C, H, W) in [-1, 1].
            draw: What :meth:`draw` returns.
            labels: (N,) int64, or None.
            target: The target denoiser, exactly where ``needs_target``.
            teacher: The teacher, exactly where ``needs_teacher``.
            **conditions: What the networks are told beside the labels, by name, each (N, ...).

        Returns:
            (N,) weighted losses.
        """
        reference = self._checked_reference(online, target, teacher, x0, draw, labels, **conditions)
        denoised = online(draw.at(draw.sigma, x0), draw.sigma, labels, **conditions)
        weights = self.weighting(draw.sigma, draw.next_sigma, self.sigma_data)
        return self.distance(denoised, reference) * weights

    def _checked_reference(
        self,
        online: Denoiser,
        target: Denoiser | None,
        teacher: Denoiser | None,
        x0: torch.Tensor,
        draw: Draw,
        labels: torch.Tensor | None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """The reference, of the roles that this objective has."""
        check_roles(self, target, teacher)
        with torch.inference_mode():
            reference = self.reference(
                online if target is None else target, teacher, x0, draw, labels, **conditions
            )
        # What was made in inference mode cannot be kept for the backward pass; a copy can.
        return reference.clone()

    @abstractmethod
    def reference(
        self,
        target: Denoiser,
        teacher: Denoiser | None,
        x0: torch.Tensor,
        draw: Draw,
        labels: torch.Tensor | None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """What the online output is compared with, without gradients: (N, C, H, W)."""


@lru_cache(maxsize=8)
def _grid(levels: NoiseRange, n: int, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):
        return levels.grid(n).to(device)


def check_roles(objective: Any, target: Denoiser | None, teacher: Denoiser | None) -> None:
    """Refuse a target or teacher that an objective does not use, and miss none that it needs."""
    for role, given, needed in (
        ('target network', target, objective.needs_target),
        ('teacher', teacher, objective.needs_teacher),
    ):
        if (given is not None) != needed:
            verb = 'needs a' if needed else 'does not use the given'
            raise InputError(f'{type(objective).__name__} {verb} {role}.')
