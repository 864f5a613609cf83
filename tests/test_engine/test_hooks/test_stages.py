"""What a finished stage hands on: its average, to the networks and to the teacher of the next."""

import pytest
import torch
from mmengine.hooks import Hook

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import EMAHook
from mmagic_cm.errors import InputError

# DenoisingScoreMatching, mid-training, ECT and TCM's second stage, of two steps each.
BEGINS = [0, 2, 4, 6]
STAGED = dict(
    type='StagedObjective',
    stages=[
        (0.5, dict(type='DenoisingScoreMatching')),
        (1.0, dict(type='ConsistencyTraining')),
    ],
)


class Watch(Hook):
    """Keep what each step starts from, after StageHook has done its part, and what it ends with."""

    priority = 'VERY_LOW'

    def __init__(self, copy) -> None:
        self.copy, self.starts, self.ends = copy, [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.starts.append(self.look(runner))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.ends.append(self.look(runner))

    def look(self, runner) -> dict:
        model = runner.model
        (ema_hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
        return dict(
            teacher=model.teacher and self.copy(model.teacher.denoiser),
            target=model.target and self.copy(model.target),
            student=self.copy(model.denoiser),
            averages=[self.copy_of(a) for a in ema_hook.tracker.averages.values()],
            moments=len(runner.optim_wrapper.optimizer.state),
        )

    @staticmethod
    def copy_of(state: dict) -> dict:
        return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize('accumulated', [1, 2])
def test_stages(trainer, snapshot, equal, accumulated):
    watch = Watch(snapshot)
    options = dict(max_iters=8 * accumulated, optim_wrapper__accumulative_counts=accumulated)
    trainer('stages', watch, **options).train()
    for i, (start, before) in enumerate(zip(watch.starts[1:], watch.ends, strict=False), 1):
        student, averages = dict(start['student']), start['averages']
        if i in [begin * accumulated for begin in BEGINS[1:]]:
            # The longest average, which is not the online network.
            assert equal(student, before['averages'][1]), i
            assert not equal(student, dict(before['student'])), i
            assert all(equal(average, student) for average in averages), i
            assert start['moments'] == 0, i
        else:
            assert equal(student, dict(before['student'])), i
            assert equal(averages, before['averages']), i
            assert start['moments'] == before['moments'], i
        # ECT needs no teacher, and leaves it as it is.
        begin = accumulated * max((b for b in (2, 6) if b * accumulated <= i), default=0)
        taught = watch.starts[begin]['student' if begin else 'teacher']
        assert equal(dict(start['teacher']), dict(taught)), i


def test_a_target_starts_from_the_average(trainer, snapshot, equal):
    watch = Watch(snapshot)
    trainer(STAGED, watch, max_iters=6, custom_hooks=[dict(type='StageHook')]).train()
    start, before = watch.starts[3], watch.ends[2]
    assert equal(dict(start['student']), before['averages'][1])
    assert equal(dict(start['target']), dict(start['student']))


def test_the_teacher_is_saved_where_a_stage_has_one(trainer):
    options = dict(default_hooks__checkpoint__interval=1)
    options['default_hooks__checkpoint__max_keep_ckpts'] = -1
    runner = trainer('stages', **options)
    runner.train()
    saved = [read_checkpoint(f'{runner.work_dir}/iter_{n}.pth') for n in range(1, 9)]
    with_teacher = [n for n, checkpoint in enumerate(saved, 1) if 'teacher' in checkpoint]
    assert with_teacher == [3, 4, 7, 8]
    assert not any('teacher' in name for name in saved[3]['state_dict'])
    # It is the network of the stage before in the student's own parameterization.
    model = runner.model
    assert type(model.teacher.denoiser.parameterization) is type(model.denoiser.parameterization)

    checkpoint = saved[2]
    del checkpoint['teacher']
    path = f'{runner.work_dir}/without.pth'
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='teacher'):
        trainer('stages', resume=True, load_from=path).train()


def test_wrong_company(trainer):
    hook = dict(type='StageHook')
    with pytest.raises(InputError, match='StagedObjective'):
        trainer('ict', custom_hooks=[hook]).train()
    runner = trainer('ect', custom_hooks=[hook])
    runner._hooks = [h for h in runner._hooks if not isinstance(h, EMAHook)]
    with pytest.raises(InputError, match='EMAHook'):
        runner.train()


@pytest.mark.parametrize('stages', [[1.0], [0.5, 1.0]])
def test_a_teacher_that_no_stage_hands_on(trainer, stages):
    """The first stage has none before it; without the hook none has."""
    mid = dict(type='ConsistencyMidTraining', distance='l2', num_steps=2)
    edm = dict(type='DenoisingScoreMatching')
    objective = dict(
        type='StagedObjective', stages=[*zip(stages, [edm, mid][-len(stages) :], strict=True)]
    )
    hooks = [dict(type='StageHook')] if len(stages) == 1 else []
    runner = trainer(
        objective, custom_hooks=hooks, max_iters=2, model__teacher=dict(from_stage=True)
    )
    with pytest.raises(InputError, match='StageHook'):
        runner.train()
