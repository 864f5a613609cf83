"""A bar on the terminal, for those who do not read logs."""

import sys

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...registry import HOOKS


def _bar(**settings) -> tqdm:
    return tqdm(
        disable=not is_main_process(),
        # Where lines cannot be overwritten, few of them.
        mininterval=0.5 if sys.stderr.isatty() else 15,
        **settings,
    )


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show iterations, iterations per second, the time left and the latest loss in one line.

    While a model is tested or validated, another line shows the images that all processes drew.
    For use with ``log_level='WARNING'``; the JSON log of the work directory stays complete.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Start at the iteration where the run stands."""
        self._start = runner.iter
        self._bar = _bar(total=runner.max_iters, initial=self._start, desc='training', unit='it')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Move the bar; the loss is the one that was last read for the log, at first its own."""
        loss = runner.message_hub.log_scalars.get('train/loss')
        if loss is not None or runner.iter == self._start:
            loss = float(outputs['loss']) if loss is None else loss.current()
            self._bar.set_postfix(loss=f'{loss:.3g}', refresh=False)
        self._bar.update()

    def after_train(self, runner: Runner) -> None:
        """Leave the finished bar."""
        self._bar.close()

    def before_test_epoch(self, runner: Runner) -> None:
        """Start at no image."""
        self._start_images(runner.test_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        """Start at no image."""
        self._start_images(runner.val_dataloader)

    def _start_images(self, loader: DataLoader) -> None:
        self._images = _bar(total=len(loader.dataset), desc='sampling', unit='image')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=()) -> None:
        """Move on by what the processes drew; the last shares are padded."""
        bar = self._images
        bar.update(min(len(outputs) * get_world_size(), bar.total - bar.n))
        if bar.n == bar.total:
            bar.close()

    after_val_iter = after_test_iter
