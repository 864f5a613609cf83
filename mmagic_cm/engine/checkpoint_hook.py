"""The hook that saves checkpoints, and keeps diverged weights from replacing good ones."""

import torch
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from ..errors import InputError
from ..registry import HOOKS
from .curriculum_hook import unwrapped

ADVICE = 'The last good checkpoint is kept: lower the learning rate, or clip gradients.'


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's CheckpointHook, which refuses weights that are not finite.

    MMEngine removes the oldest checkpoint before it writes the new one, so the check comes first:
    with ``max_keep_ckpts=1`` the last good one would be gone.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        for name, tensor in unwrapped(runner).state_dict().items():
            if not torch.isfinite(tensor).all():
                raise InputError(
                    f'{name} is no longer finite at iteration {runner.iter + 1}. {ADVICE}'
                )
        super()._save_checkpoint_with_step(runner, step, meta)
