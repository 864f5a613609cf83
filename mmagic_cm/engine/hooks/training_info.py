"""The hook that feeds MMEngine's log without making the device wait, and stops a diverged run."""

import math
import time
from collections import Counter

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from ...checkpoints import register_safe_loaders
from ...errors import InputError
from ...objectives import Objective, StagedObjective
from ...registry import HOOKS
from ..averages import took_step
from .checkpoint import advice
from .curriculum import unwrapped


@HOOKS.register_module()
class TrainingInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook that reads losses from the device only when LoggerHook logs them.

    It adds the loss by noise level, iterations per second, images seen, hours left, the
    curriculum's number of scales and target EMA, the norm of gradients that are clipped, and the
    loss scale of float16; it stops when one of them is no longer finite.
    """

    def before_run(self, runner: Runner) -> None:
        """Before MMEngine reads a checkpoint: let it read its own, safely."""
        super().before_run(runner)
        register_safe_loaders()

    def before_train(self, runner: Runner) -> None:
        """Start counting."""
        super().before_train(runner)
        loggers = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
        self._logger = next(loggers, LoggerHook())
        self._sums: dict[str, torch.Tensor] = {}
        self._counts = Counter()
        self._last = runner.iter
        self._since = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Add the outputs on the device; read them when it is time."""
        for key, value in (outputs or {}).items():
            self._add(key, value)
        norm = getattr(runner.optim_wrapper, 'grad_norm', None)
        if norm is not None and took_step(runner):
            self._add('grad_norm', norm)
        if self._is_logged(runner) or self.is_last_train_iter(runner):
            self._read(runner)

    def _is_logged(self, runner: Runner) -> bool:
        logger, iterations = self._logger, runner.iter + 1
        if iterations % logger.interval == 0:
            return True
        # What LoggerHook takes for the end of an epoch: the end of the first one.
        epoch = len(runner.train_dataloader)
        return iterations == epoch and (not logger.ignore_last or epoch <= logger.interval)

    def _add(self, key: str, value: torch.Tensor) -> None:
        value = value.detach()
        self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._counts[key] += 1

    def _read(self, runner: Runner) -> None:
        model, iterations, now = unwrapped(runner), runner.iter + 1, time.perf_counter()
        figures = {key: float(total) / self._counts[key] for key, total in self._sums.items()}
        figures |= model.loss_by_noise_level.take()
        figures['iterations_per_s'] = (iterations - self._last) / (now - self._since)
        figures['images_seen'] = iterations * runner.train_dataloader.batch_size * get_world_size()
        if 'eta' in runner.message_hub.runtime_info:
            figures['hours_left'] = runner.message_hub.get_info('eta') / 3600
        if model.progress is not None:
            figures |= _curriculum_figures(
                model.objective, model.progress.step, model.progress.total_steps
            )
        loss_scale = getattr(runner.optim_wrapper, 'loss_scale', None)
        if loss_scale is not None:
            figures['loss_scale'] = loss_scale
        self._sums, self._counts, self._last, self._since = {}, Counter(), iterations, now
        for key, value in figures.items():
            _check(runner, iterations, key, value)
            runner.message_hub.update_scalar(f'train/{key}', value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the losses since the last reading: weights may be finite and still worthless."""
        for key, total in self._sums.items():
            _check(runner, checkpoint['meta']['iter'], key, float(total))


def _check(runner: Runner, iteration: int, key: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f'{key} is {value} at iteration {iteration}. {advice(runner)}')


def _curriculum_figures(
    objective: Objective | StagedObjective, step: int, total_steps: int
) -> dict[str, float]:
    """``num_scales`` where the objective has a curriculum, ``target_ema`` where it has a target."""
    objective, step, total_steps = objective.at_work(step, total_steps)
    figures = {}
    if objective.curriculum is not None:
        figures['num_scales'] = objective.curriculum(step, total_steps)[1]
    if objective.needs_target:
        figures['target_ema'] = objective.target_ema(step, total_steps)
    return figures
