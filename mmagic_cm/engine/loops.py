"""The training loop that resumes at the batch where it stopped."""

import inspect
from pathlib import Path
from typing import NoReturn

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..datasets.samplers import ResumableSampler
from ..errors import InputError, Stopped, closest
from ..io.locks import Lock
from ..registry import LOOPS
from .hooks.curriculum import ends_step, is_due, run_seed
from .stopping import StopRequest


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """MMEngine's iteration-based loop, which on resuming reads none of the past batches again.

    Ctrl-C, SIGTERM and SIGHUP end it after the optimizer step that is under way, with a checkpoint
    from which the run goes on. Validation waits for the end of a step, too.

    Its ``train_dataloader`` takes a :class:`ResumableSampler`. Arguments: ``max_iters``,
    ``val_interval`` and the others of ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **settings) -> None:
        for name in 'max_iters', 'val_interval':
            if name in settings:
                _check_count(f'train_cfg.{name}', settings[name])
        if isinstance(dataloader, dict):
            _check_loader(dataloader)
            dataloader = runner.build_dataloader(dataloader, runner.seed)
        # MMEngine's constructor starts to read what it is given: from the first draw, and with
        # workers that would live as long as the run. Here it is given a loader without workers.
        super().__init__(runner, DataLoader(dataloader.dataset), **settings)
        self.dataloader = dataloader

    def run(self):
        """Train to ``max_iters`` from wherever the run is, alone in the work directory.

        Raises:
            Stopped: A signal came.
        """
        work_dir = Path(self.runner.work_dir)
        with Lock(work_dir / '.lock', work_dir):
            self.runner.dump_config()
            return self._train()

    def _train(self):
        runner, loader = self.runner, self.dataloader
        if not isinstance(loader.sampler, ResumableSampler):
            raise InputError(
                "ResumableIterLoop needs sampler=dict(type='ResumableSampler') in train_dataloader."
            )
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        # The seed may come from the checkpoint, which is read after the data loader is built.
        loader.sampler.seed = run_seed(runner)
        loader.sampler.start = self._iter * loader.batch_size * get_world_size()
        with StopRequest() as request:
            batches = iter(loader)
            while self._iter < self._max_iters and not self.stop_training:
                runner.model.train()
                self.run_iter(next(batches))
                self._decide_current_val_interval()
                if ends_step(runner, self._iter) and request.agreed():
                    self._stop(request)
                if self._is_time_to_validate():
                    runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _is_time_to_validate(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter == self._max_iters or is_due(self.runner, self._iter, self.val_interval)

    def _stop(self, request: StopRequest) -> NoReturn:
        said = 'nothing is saved: the config has no CheckpointHook'
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook):
                here = dict(epoch=self._epoch, iter=self._iter)
                hook._save_checkpoint_with_step(self.runner, self._iter, here)
                said = f'saved {hook.last_ckpt}; go on with --resume'
        self.runner.call_hook('after_run')
        # The processes that do not write wait for the one that does.
        raise Stopped(request.agreed(), said)


def _check_count(name: str, value: int | None) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f'{name} must be a whole number from 1 up, not {value!r}.')


def _check_loader(settings: dict) -> None:
    """Refuse what ``DataLoader`` would refuse with a traceback."""
    _check_count('train_dataloader.batch_size', settings.get('batch_size'))
    known = {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise InputError(f'train_dataloader takes no {unknown[0]!r}.{closest(unknown[0], known)}')
