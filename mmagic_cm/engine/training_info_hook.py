"""The hook that feeds MMEngine's log without making the device wait, and stops a diverged run."""

import math
import time

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner

from ..checkpoints import register_safe_loaders
from ..errors import InputError
from ..registry import HOOKS
from .checkpoint_hook import ADVICE
from .curriculum_hook import unwrapped


@HOOKS.register_module()
class TrainingInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook that reads losses from the device only when they are logged.

    It adds the loss by noise level and the iterations per second, and stops when the loss is no
    longer finite. Give it the LoggerHook's interval.

    Args:
        interval: Iterations between readings.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_run(self, runner: Runner) -> None:
        """Before MMEngine reads a checkpoint: let it read its own, safely."""
        super().before_run(runner)
        register_safe_loaders()

    def before_train(self, runner: Runner) -> None:
        """Start counting."""
        super().before_train(runner)
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0
        self._since = time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Add the outputs on the device; read them when it is time."""
        for key, value in (outputs or {}).items():
            value = value.detach()
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._count += 1
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._read(runner)

    def _read(self, runner: Runner) -> None:
        figures = {key: float(total) / self._count for key, total in self._sums.items()}
        figures |= unwrapped(runner).loss_by_noise_level.take()
        now = time.perf_counter()
        figures['iterations_per_s'] = self._count / (now - self._since)
        self._sums, self._count, self._since = {}, 0, now
        for key, value in figures.items():
            if not math.isfinite(value):
                raise InputError(f'{key} is {value} at iteration {runner.iter + 1}. {ADVICE}')
            runner.message_hub.update_scalar(f'train/{key}', value)
