"""The hook that carries a run from stage to stage."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...errors import InputError
from ...objectives import StagedObjective
from ...registry import HOOKS
from .curriculum import unwrapped
from .ema import find_ema_hook


class TeacherHook(Hook):
    """Save a teacher that the run made itself with the checkpoint, as ``teacher``; resume it."""

    _loaded: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the teacher of the file until the run begins."""
        self._loaded = checkpoint.get('teacher')

    def restore_teacher(self, runner: Runner) -> None:
        """Take over the teacher of the file.

        Raises:
            InputError: There is none.
        """
        if self._loaded is None:
            raise InputError('The checkpoint to resume from holds no teacher.')
        teacher = unwrapped(runner).teacher
        teacher.load_state_dict(self._loaded)
        teacher.ready = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the teacher of the current stage into the file."""
        state = unwrapped(runner).teacher.state_dict()
        checkpoint['teacher'] = {name: tensor.cpu() for name, tensor in state.items()}


@HOOKS.register_module()
class StageHook(TeacherHook):
    """Begin each stage of a :class:`StagedObjective` from the longest average of the one before.

    Publications of several stages start each run from the averaged network of the one before: so
    here online and target network and all averages become that average, and the optimizer forgets
    its moments. With ``teacher=dict(from_stage=True)`` the average is the teacher, too, of a stage
    that needs one. (Without this hook a stage goes on from the online network.)
    """

    def before_train(self, runner: Runner) -> None:
        """Take over the teacher of a run that is resumed within a stage that has one."""
        if not isinstance(unwrapped(runner).objective, StagedObjective):
            raise InputError('StageHook is for a StagedObjective.')
        if find_ema_hook(runner) is None:
            raise InputError('StageHook hands an average on: it needs an EMAHook.')
        if runner.iter > 0 and self._loaded is not None:
            self.restore_teacher(runner)
        self._loaded = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Begin a stage."""
        # CurriculumHook, which comes first, says where the run is.
        model = unwrapped(runner)
        now, accumulated = model.progress, runner.optim_wrapper._accumulative_counts
        stage, step, _ = model.objective.stage(now.step, now.total_steps)
        if stage > 0 and step == 0 and now.iteration % accumulated == 0:
            self._begin_stage(runner, stage)

    def _begin_stage(self, runner: Runner, stage: int) -> None:
        model, tracker = unwrapped(runner), find_ema_hook(runner).tracker
        longest = tracker.longest
        model.denoiser.load_state_dict(tracker.averages[longest])
        if model.target is not None:
            model.target.load_state_dict(model.denoiser.state_dict())
        if self._has_teacher(runner):
            model.teacher.become(model.denoiser)
        tracker.reset()
        runner.optim_wrapper.optimizer.state.clear()
        name = type(model.objective.objectives[stage]).__name__
        runner.logger.info(f'{name} begins, from the EMA {longest}.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the teacher of the current stage into the file, if a stage was its teacher."""
        if self._has_teacher(runner):
            super().before_save_checkpoint(runner, checkpoint)

    @staticmethod
    def _has_teacher(runner: Runner) -> bool:
        """Whether the stage at work learns from the one before."""
        model = unwrapped(runner)
        at_work, *_ = model.objective.at_work(model.progress.step, model.progress.total_steps)
        return at_work.needs_teacher and model.teacher.from_stage
