"""The hook that tells the model where the run is, and moves the target network."""

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...models.consistency_model import ConsistencyModel, TrainingProgress
from ...registry import HOOKS
from ..averages import took_step, update_ema


def unwrapped(runner: Runner) -> ConsistencyModel:
    """The model inside a distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def run_seed(runner: Runner) -> int:
    """The seed that all processes share; ``randomness.diff_rank_seed`` adds the rank to theirs."""
    per_rank = runner._randomness_cfg.get('diff_rank_seed', False)
    return runner.seed - get_rank() if per_rank else runner.seed


def ends_step(runner: Runner, iterations: int) -> bool:
    """Whether no gradients wait for an optimizer step after so many iterations of the run."""
    accumulated = runner.optim_wrapper._accumulative_counts
    return iterations % accumulated == 0 or iterations == runner.max_iters


def is_due(runner: Runner, iterations: int, interval: int, begin: int = 0) -> bool:
    """Whether it is time for what happens at every ``interval`` from ``begin`` on.

    Where gradients are accumulated it waits for the end of the step: a checkpoint holds none.
    """
    since = iterations - begin
    if interval <= 0 or since < 0 or not ends_step(runner, iterations):
        return False
    return since % interval < runner.optim_wrapper._accumulative_counts


@HOOKS.register_module()
class CurriculumHook(Hook):
    """Count optimizer steps for the objective; follow the online network with the target network.

    The target takes the curriculum's rate mu after each optimizer step (algorithms 2 and 3). It is
    copied from the online network when a run starts, which is after ``load_from``.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Start the target network, unless the run is resumed."""
        self._accumulated = runner.optim_wrapper._accumulative_counts
        self._total_steps = max(runner.max_iters // self._accumulated, 1)
        if runner.iter == 0:
            self._follow(runner, rate=0.0)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Say where the run is."""
        unwrapped(runner).progress = TrainingProgress(
            seed=run_seed(runner),
            iteration=runner.iter,
            step=runner.iter // self._accumulated,
            total_steps=self._total_steps,
        )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Move the target network, where the optimizer moved the online one."""
        if took_step(runner):
            model = unwrapped(runner)
            now = model.progress
            self._follow(runner, model.objective.target_ema(now.step, now.total_steps))

    def _follow(self, runner: Runner, rate: float) -> None:
        model = unwrapped(runner)
        if model.target is not None:
            update_ema([*model.target.parameters()], [*model.denoiser.parameters()], rate)
