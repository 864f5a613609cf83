"""Objectives one after another in one run."""

import dataclasses
from collections.abc import Sequence

from torch import nn

from ..errors import InputError
from ..registry import MODELS
from .base import Objective, check_roles


@MODELS.register_module()
class StagedObjective(nn.Module):
    """Objectives one after another, each with its own count of steps; called as they are.

    Args:
        stages: ``(end, objective)`` with ``end`` the share of the run at which the stage ends,
            rising to 1.0.

    Example:
        >>> StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, EasyConsistencyTuning())])
    """

    def __init__(self, stages: Sequence[tuple[float, dict | Objective]]) -> None:
        super().__init__()
        ends = [end for end, _ in stages]
        if not ends or ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1.0:
            raise InputError(f'The ends of the stages must rise from above 0 to 1.0, not {ends}.')
        self.ends = ends
        self.objectives = nn.ModuleList(
            MODELS.build(objective) if isinstance(objective, dict) else objective
            for _, objective in stages
        )
        self.needs_target = any(objective.needs_target for objective in self.objectives)
        self.needs_teacher = any(objective.needs_teacher for objective in self.objectives)
        self.figures: dict = {}

    def within(self, denoiser) -> 'StagedObjective':
        """See :class:`Objective`."""
        objectives = [objective.within(denoiser) for objective in self.objectives]
        return type(self)([*zip(self.ends, objectives, strict=True)])

    def prepare(self) -> None:
        """See :class:`Objective`."""
        for objective in self.objectives:
            objective.prepare()

    def stage(self, step: int, total_steps: int) -> tuple[int, int, int]:
        """The number of the objective at work, the step and number of steps as it counts them."""
        begins = [0, *(round(end * total_steps) for end in self.ends)]
        # Past the end the last one goes on.
        number = sum(step >= begin for begin in begins[1:-1])
        begin, end = begins[number], begins[number + 1]
        return number, step - begin, max(end - begin, 1)

    def at_work(self, step: int, total_steps: int) -> tuple[Objective, int, int]:
        """The objective at work, the step and number of steps as it counts them."""
        number, step, total_steps = self.stage(step, total_steps)
        return self.objectives[number], step, total_steps

    def grid(self, step, total_steps, device='cpu'):
        """Of the current stage."""
        objective, step, total_steps = self.at_work(step, total_steps)
        return objective.grid(step, total_steps, device)

    def curriculum(self, step: int, total_steps: int) -> tuple[float, int]:
        """Of the current stage."""
        objective, step, total_steps = self.at_work(step, total_steps)
        return objective.curriculum(step, total_steps)

    def target_ema(self, step: int, total_steps: int) -> float:
        """Of the current stage; stages without a target keep it equal to the online network."""
        objective, step, total_steps = self.at_work(step, total_steps)
        return objective.target_ema(step, total_steps) if objective.needs_target else 0.0

    def draw(self, x0, step, total_steps, generator=None):
        """See :class:`Objective`."""
        number, step, total_steps = self.stage(step, total_steps)
        draw = self.objectives[number].draw(x0, step, total_steps, generator)
        return dataclasses.replace(draw, stage=number)

    def forward(self, online, x0, draw, labels=None, *, target=None, teacher=None, **conditions):
        """See :class:`Objective`; a stage is given only what it needs."""
        check_roles(self, target, teacher)
        objective = self.objectives[draw.stage]
        losses = objective(
            online,
            x0,
            draw,
            labels,
            target=target if objective.needs_target else None,
            teacher=teacher if objective.needs_teacher else None,
            **conditions,
        )
        self.figures = objective.figures
        return losses
