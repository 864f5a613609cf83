"""The hook that saves checkpoints such that neither a kill nor a divergence costs the last one."""

import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from ...errors import InputError, closest
from ...io.files import UNFINISHED, in_place_of
from ...registry import HOOKS
from .curriculum import is_due


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all, whenever the process is killed."""
    with in_place_of(path, durable=True) as fresh:
        fresh.write_bytes(data)


@register_backend('mmagic_cm_atomic')
class AtomicBackend(LocalBackend):
    """MMEngine's local files, written by :func:`write_atomically`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file."""
        write_atomically(filepath, obj)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's CheckpointHook, safe against kills and against diverged weights.

    Files are written under another name and renamed; what ``max_keep_ckpts`` has to go goes when
    the new checkpoint is in place and ``last_checkpoint`` names it (MMEngine removes first and
    writes then). It saves where an optimizer step ends. A checkpoint with anything in it that is
    not finite is refused before any file is touched. Arguments: those of MMEngine's hook.

    Raises:
        InputError: An argument that the hook does not take. (MMEngine's hands it on, and meets it
            at the first save.)

    Attributes:
        saved: The last checkpoint of the run, once there is one.
    """

    saved: str | None = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.args:
            name = min(self.args)
            known = inspect.signature(MMEngineCheckpointHook).parameters.keys() - {'kwargs'}
            raise InputError(f'CheckpointHook takes no {name!r}.{closest(name, known)}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to resume from what was saved without the optimizer, such as the best one."""
        if runner._resume and 'optimizer' not in checkpoint:
            raise InputError(
                'The checkpoint to resume from holds no optimizer state: take an iter_N.pth, or '
                'start anew from its weights, as load_from.'
            )

    def before_train(self, runner: Runner) -> None:
        """Choose how to write, and remove what a killed run has left unfinished."""
        super().before_train(runner)
        if runner.iter > 0:
            self.saved = runner.message_hub.runtime_info.get('last_ckpt')
        if self.max_keep_ckpts > 0:
            # Without a bound: for a moment there is one more than is kept.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        if type(self.file_backend) is LocalBackend:
            self.backend_args = dict(backend='mmagic_cm_atomic')
            self._remove_unfinished(runner)

    @master_only
    def _remove_unfinished(self, runner: Runner) -> None:
        for folder in {Path(self.out_dir), Path(runner.work_dir)}:
            for path in folder.glob(f'*{UNFINISHED}'):
                path.unlink()

    def every_n_train_iters(self, runner: Runner, n: int, start: int = 0) -> bool:
        """Whether to save: see :func:`is_due`."""
        return is_due(runner, runner.iter + 1, n, start)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse what is not finite: weights, averages, teacher, the optimizer's state."""
        for name, tensor in _tensors(checkpoint):
            if not torch.isfinite(tensor).all():
                iteration = checkpoint['meta']['iter']
                raise InputError(
                    f'{name} is no longer finite at iteration {iteration}. {advice(runner)}'
                )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # The outdated checkpoint is still among them: a run that is killed before it removes it
        # does so when it is resumed.
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_atomically(Path(runner.work_dir) / 'last_checkpoint', self.last_ckpt.encode())
        self.saved = self.last_ckpt
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        while 0 < self.max_keep_ckpts < len(self.keep_ckpt_ids):
            name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            path = self.file_backend.join_path(self.out_dir, name)
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)


def advice(runner: Runner) -> str:
    """What to do about a run that has diverged."""
    saved = (hook.saved for hook in runner.hooks if isinstance(hook, CheckpointHook))
    last = next(filter(None, saved), None)
    kept = f'The last good checkpoint is {last}' if last else 'There is no checkpoint yet'
    return f'{kept}: lower the learning rate, or clip gradients.'


def _tensors(state: object, name: str = '') -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested dicts and lists, with their names."""
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f'{name}.{key}' if name else str(key))
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value, name)
