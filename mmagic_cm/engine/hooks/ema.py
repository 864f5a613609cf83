"""The hook that keeps evaluation EMAs of the online network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints import sampling_config
from ...checkpoints.layouts import SIGMA_REL, average_key, average_length, network_weights
from ...checkpoints.writing import write_ours
from ...errors import InputError
from ...registry import HOOKS
from ..averages import EMATracker, took_step
from ..posthoc_ema import FOLDER, snapshot_path
from .curriculum import is_due, unwrapped


@HOOKS.register_module()
class EMAHook(Hook):
    """Average the online network at several rates, save them as ``emas``, resume them.

    Args:
        rates: Such as (0.999, 0.9999).
        evaluate: Which weights are validated and tested: 'auto' (the longest average), a rate,
            'sigma_rel=0.05', or None (the online network). Without training they are those of the
            loaded checkpoint.
        sigma_rels: Relative widths of averages of power-function profiles, such as (0.05, 0.10),
            see :mod:`mmagic_cm.engine.posthoc_ema`.
        snapshot_interval: Iterations after which these averages are kept in ``snapshots/`` of the
            work directory, each in a checkpoint of its own, and at the end: for
            ``tools/model_converters/posthoc_ema.py``. None: not at all.

    Raises:
        InputError: Of a ``snapshot_interval`` without averages to keep, or an ``evaluate`` that
            there is not.

    Attributes:
        rates: Of all averages: numbers, and names of profiles.
        tracker: The averages of a training, once it has begun.
    """

    def __init__(
        self,
        rates: Sequence[float] = (0.9999,),
        evaluate: str | float | None = 'auto',
        sigma_rels: Sequence[float] = (),
        snapshot_interval: int | None = None,
    ) -> None:
        self._sigma_rels = {f'{SIGMA_REL}{float(width)}': width for width in sigma_rels}
        self.rates = (*rates, *self._sigma_rels)
        self.check(evaluate)
        if snapshot_interval and not self._sigma_rels:
            raise InputError('EMAHook(snapshot_interval=...) keeps averages of sigma_rels.')
        self.snapshot_interval = snapshot_interval
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
        elif self.snapshot_interval and any(Path(runner.work_dir, FOLDER).glob('*')):
            raise InputError(
                f'{runner.work_dir}/{FOLDER} holds the snapshots of another run: go on with '
                f'--resume, remove them, or take another --work-dir.'
            )
        self._loaded = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Follow the online network, where the optimizer moved it."""
        step = runner.iter // runner.optim_wrapper._accumulative_counts + 1
        if took_step(runner):
            self.tracker.update(step)
        if self.snapshot_interval and (
            is_due(runner, runner.iter + 1, self.snapshot_interval)
            or self.is_last_train_iter(runner)
        ):
            self._keep(runner, step)

    @master_only
    def _keep(self, runner: Runner, step: int) -> None:
        config = sampling_config(runner.cfg)
        for name, sigma_rel in self._sigma_rels.items():
            average = self.tracker.averages[name]
            weights = network_weights({f'denoiser.{key}': v for key, v in average.items()})
            path = snapshot_path(runner.work_dir, step, sigma_rel)
            write_ours(weights, config, path, ema=name, iter=runner.iter + 1)

    def check(self, ema: str | float | None) -> None:
        """Refuse a choice of weights that is not 'auto', one of the averages, or None."""
        if ema not in (None, 'auto', *self.rates):
            raise InputError(f'There is no EMA {ema!r}: EMAHook keeps {self.rates}.')

    @contextmanager
    def applied(self, ema: str | float | None) -> Iterator[None]:
        """Run with a choice of weights in the online network.

        Args:
            ema: 'auto' (the longest average), one of ``rates``, or None (the online network).
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
        there = map(average_key, self._loaded)
        rate = max(there, key=average_length) if self.evaluate == 'auto' else self.evaluate
        tracker = EMATracker(unwrapped(runner).denoiser, (rate,))
        tracker.load_state_dict(self._loaded)
        self._judging.enter_context(tracker.applied())
        runner.logger.info(f"The checkpoint's EMA {rate} is judged.")

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
