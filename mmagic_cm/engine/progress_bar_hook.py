"""A bar on the terminal, for those who do not read logs."""

import sys

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from ..registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show iterations, iterations per second, the time left and the latest loss in one line.

    For use with ``log_level='WARNING'``; the JSON log of the work directory stays complete.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Start at the iteration where the run stands."""
        self._bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc='training',
            unit='it',
            disable=not is_main_process(),
            # Where lines cannot be overwritten, few of them.
            mininterval=0.5 if sys.stderr.isatty() else 15,
        )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Move the bar; the loss is the one that was last read for the log."""
        loss = runner.message_hub.log_scalars.get('train/loss')
        if loss is not None:
            self._bar.set_postfix(loss=f'{loss.current():.3g}', refresh=False)
        self._bar.update()

    def after_train(self, runner: Runner) -> None:
        """Leave the finished bar."""
        self._bar.close()
