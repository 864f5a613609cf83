"""Progressive distillation through its stages: who teaches, what starts again, at which rate."""

import pytest
import torch
from mmengine.hooks import Hook

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import EMAHook
from mmagic_cm.errors import InputError

# 4 steps, then 2, then 1: the stages begin at steps 0, 2 and 6, and end at 10.
PD = dict(max_iters=10, model__objective__curriculum__steps_per_stage=2)
BEGINS = [2, 6]


class Watch(Hook):
    """Keep what each step starts from, after ProgressiveDistillationHook has done its part."""

    priority = 'VERY_LOW'

    def __init__(self, copy) -> None:
        self.copy, self.seen = copy, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model
        (ema_hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
        self.seen.append(
            dict(
                teacher=self.copy(model.teacher.denoiser),
                student=self.copy(model.denoiser),
                emas=[dict(average) for average in ema_hook.tracker.averages.values()],
                emas_equal=all(
                    torch.equal(average[name], tensor)
                    for average in ema_hook.tracker.averages.values()
                    for name, tensor in model.denoiser.state_dict().items()
                ),
                moments=len(runner.optim_wrapper.optimizer.state),
                lr=runner.optim_wrapper.get_lr()['lr'][0],
                scales=model.objective.curriculum(model.progress.step, 10)[1],
            )
        )


@pytest.fixture
def run(trainer, snapshot):
    watch = Watch(snapshot)
    runner = trainer('pd', watch, **PD)
    runner.train()
    return watch.seen, runner


def test_the_student_becomes_the_teacher_of_each_stage(run, equal):
    seen, _ = run
    assert [step['scales'] for step in seen] == [4, 4, 2, 2, 2, 2, 1, 1, 1, 1]
    for i, step in enumerate(seen):
        begin = max((b for b in BEGINS if b <= i), default=0)
        assert equal(step['teacher'], seen[begin]['student']), i
        # The student starts from the teacher of the config and learns in every step.
        assert (i in (0, *BEGINS)) == equal(step['teacher'], step['student']), i


def test_optimizer_and_emas_start_again(run):
    seen, _ = run
    for i, step in enumerate(seen):
        begins = i in (0, *BEGINS)
        assert (step['moments'] == 0) == begins, i
        assert step['emas_equal'] == begins, i


def test_the_rate_falls_within_each_stage(run):
    seen, _ = run
    shares = [1, 1 / 2, 1, 3 / 4, 1 / 2, 1 / 4, 1, 3 / 4, 1 / 2, 1 / 4]
    assert [step['lr'] for step in seen] == pytest.approx([1e-3 * share for share in shares])


def test_the_teacher_is_in_the_checkpoint_and_not_in_the_weights(run, equal):
    seen, runner = run
    checkpoint = read_checkpoint(f'{runner.work_dir}/iter_10.pth')
    saved = {k.removeprefix('denoiser.'): v for k, v in checkpoint['teacher'].items()}
    assert equal(saved, dict(seen[-1]['teacher']))
    assert not any('teacher' in name for name in checkpoint['state_dict'])


def test_gradients_accumulate_within_a_stage(trainer, snapshot, equal):
    watch = Watch(snapshot)
    options = dict(PD, max_iters=20, optim_wrapper__accumulative_counts=2)
    trainer('pd', watch, **options).train()
    scales = [step['scales'] for step in watch.seen]
    assert scales == [n for n in (4, 4, 2, 2, 2, 2, 1, 1, 1, 1) for _ in range(2)]
    teachers = [step['teacher'] for step in watch.seen]
    changes = [i for i in range(1, 20) if not equal(teachers[i], teachers[i - 1])]
    assert changes == [4, 12]


def test_a_run_too_short_for_its_stages_says_so(trainer, monkeypatch):
    runner = trainer('pd', max_iters=3, model__objective__curriculum__steps_per_stage=2)
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any('ends in stage 1' in text and '10 optimizer steps' in text for text in said)


@pytest.mark.parametrize(
    ('objective', 'options', 'match'),
    [
        (
            'ict',
            dict(custom_hooks=[dict(type='ProgressiveDistillationHook')]),
            'is for ProgressiveDistillation',
        ),
        ('pd', dict(scheduler=True), 'remove param_scheduler'),
    ],
)
def test_wrong_company(objective, options, match, trainer):
    scheduler = options.pop('scheduler', False)
    runner = trainer(objective, **options)
    if scheduler:
        runner.param_schedulers = dict(type='CosineAnnealingLR', by_epoch=False, T_max=8)
    with pytest.raises(InputError, match=match):
        runner.train()


def test_a_checkpoint_without_a_teacher_is_not_resumed(trainer):
    runner = trainer('pd', **PD)
    runner.train()
    path = f'{runner.work_dir}/iter_10.pth'
    checkpoint = read_checkpoint(path)
    del checkpoint['teacher']
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='holds no teacher'):
        trainer('pd', **dict(PD, max_iters=12), load_from=path, resume=True).train()
