"""The hook that keeps evaluation EMAs of the online network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...errors import InputError
from ...registry import HOOKS
from ..averages import EMATracker, took_step
from .curriculum import unwrapped


@HOOKS.register_module()
class EMAHook(Hook):
    """Average the online network at several rates, save them as ``emas``, resume them.

    Args:
        rates: Such as (0.999, 0.9999).
        evaluate: Which weights are validated and tested: 'auto' (the longest average), a rate, or
            None (the online network). Without training they are those of the loaded checkpoint.

    Attributes:
        tracker: The averages of a training, once it has begun.
    """

    def __init__(
        self, rates: Sequence[float] = (0.9999,), evaluate: str | float | None = 'auto'
    ) -> None:
        self.rates = tuple(rates)
        self.check(evaluate)
        self.evaluate = evaluate
        self.tracker: EMATracker | None = None
        self._loaded: dict | None = None
        self._judging = ExitStack()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the averages of the file until the run begins, or is judged without training."""
        self._loaded = checkpoint.get('emas', {})
        self.tracker = None

    def before_train(self, runner: Runner) -> None:
        """Start from the online network, or from the checkpoint of a resumed run."""
        self.tracker = EMATracker(unwrapped(runner).denoiser, self.rates)
        if runner.iter > 0:
            if not self._loaded:
                raise InputError('The checkpoint to resume from holds no EMAs.')
            self.tracker.load_state_dict(self._loaded)
        self._loaded = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Follow the online network, where the optimizer moved it."""
        if took_step(runner):
            self.tracker.update()

    def check(self, ema: str | float | None) -> None:
        """Refuse a choice of weights that is not 'auto', one of the rates, or None."""
        if ema not in (None, 'auto', *self.rates):
            raise InputError(f'There is no EMA of rate {ema!r}: EMAHook keeps {self.rates}.')

    @contextmanager
    def applied(self, ema: str | float | None) -> Iterator[None]:
        """Run with a choice of weights in the online network.

        Args:
            ema: 'auto' (the longest average), a rate, or None (the online network's own).
        """
        if self.tracker is None or ema is None:
            yield
            return
        with self.tracker.applied(None if ema == 'auto' else ema):
            yield

    def before_val_epoch(self, runner: Runner) -> None:
        """Judge these weights."""
        if self._loaded is not None and self.evaluate is not None:
            self._judge_loaded(runner)
        else:
            self._judging.enter_context(self.applied(self.evaluate))

    before_test_epoch = before_val_epoch

    def _judge_loaded(self, runner: Runner) -> None:
        if self.evaluate == 'auto' and not self._loaded:
            runner.logger.info('The checkpoint has no EMAs: its only weights are judged.')
            return
        # The file's longest: it may have other rates than this hook.
        rate = max(map(float, self._loaded)) if self.evaluate == 'auto' else self.evaluate
        tracker = EMATracker(unwrapped(runner).denoiser, (rate,))
        tracker.load_state_dict(self._loaded)
        self._judging.enter_context(tracker.applied())
        runner.logger.info(f"The checkpoint's EMA of rate {rate} is judged.")

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        """Go on with the online network, before CheckpointHook saves the best one."""
        self._judging.close()

    after_test_epoch = after_val_epoch

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the averages into the file."""
        if self.tracker is not None:
            checkpoint['emas'] = {
                rate: {name: tensor.cpu() for name, tensor in average.items()}
                for rate, average in self.tracker.state_dict().items()
            }


def find_ema_hook(runner: Runner) -> EMAHook | None:
    """The EMAHook of a run, if it has one."""
    return next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)
