"""The hook that carries progressive distillation from stage to stage."""

from mmengine.runner import Runner

from ...diffusion.schedules import HalvingCurriculum
from ...errors import InputError
from ...registry import HOOKS
from .curriculum import unwrapped
from .ema import find_ema_hook
from .stages import TeacherHook


@HOOKS.register_module()
class ProgressiveDistillationHook(TeacherHook):
    """Progressive distillation (arXiv:2202.00512, algorithm 2): at each stage the student teaches.

    When a stage begins, the teacher takes over the student's weights, the optimizer forgets its
    moments, and evaluation EMAs start again from the student. The current teacher is saved with
    the checkpoint, as ``teacher``.

    Args:
        anneal_lr: Within each stage, lower the learning rate linearly from the optimizer's to 0;
            use no parameter scheduler then.
    """

    def __init__(self, anneal_lr: bool = True) -> None:
        self.anneal_lr = anneal_lr

    def before_train(self, runner: Runner) -> None:
        """Say what is ahead; take over the teacher of a resumed run."""
        model = unwrapped(runner)
        curriculum = getattr(model.objective, 'curriculum', None)
        if not isinstance(curriculum, HalvingCurriculum):
            raise InputError(
                'ProgressiveDistillationHook is for ProgressiveDistillation, '
                'with a HalvingCurriculum.'
            )
        if self.anneal_lr and runner.param_schedulers:
            raise InputError(
                'ProgressiveDistillationHook(anneal_lr=True) sets the rate: remove param_scheduler.'
            )
        self._curriculum = curriculum
        self._accumulated = runner.optim_wrapper._accumulative_counts
        num_steps = runner.max_iters // self._accumulated
        if num_steps < curriculum.total_steps:
            runner.logger.warning(
                f'The run ends in stage {curriculum.stage(num_steps - 1)[0]}: all stages take '
                f'{curriculum.total_steps} optimizer steps, and it has {num_steps}.'
            )
        for group in runner.optim_wrapper.param_groups:
            group.setdefault('initial_lr', group['lr'])
        if runner.iter > 0:
            self.restore_teacher(runner)
        self._loaded = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Begin a stage, and set the learning rate."""
        step = runner.iter // self._accumulated
        number, begin, end = self._curriculum.stage(step)
        if number > 0 and runner.iter == begin * self._accumulated:
            self._begin_stage(runner)
        if self.anneal_lr:
            share_left = max(1 - (step - begin) / (end - begin), 0.0)
            for group in runner.optim_wrapper.param_groups:
                group['lr'] = group['initial_lr'] * share_left

    def _begin_stage(self, runner: Runner) -> None:
        model = unwrapped(runner)
        model.teacher.become(model.denoiser)
        runner.optim_wrapper.optimizer.state.clear()
        ema_hook = find_ema_hook(runner)
        if ema_hook is not None:
            ema_hook.tracker.reset()
        num_steps = self._curriculum(runner.iter // self._accumulated, runner.max_iters)[1]
        runner.logger.info(f'The student now learns to take {num_steps} steps.')
