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


def test_stages(trainer, snapshot, equal):
    watch = Watch(snapshot)
    runner = trainer('pd', watch, **PD)
    runner.train()
    seen = watch.seen
    assert [step['scales'] for step in seen] == [4, 4, 2, 2, 2, 2, 1, 1, 1, 1]
    for i, step in enumerate(seen):
        begins = i in (0, *BEGINS)
        assert equal(step['teacher'], seen[max(b for b in (0, *BEGINS) if b <= i)]['student']), i
        # The student starts from the teacher of the config and learns in every step.
        assert equal(step['teacher'], step['student']) == begins, i
        assert (step['moments'] == 0) == begins, i
        assert step['emas_equal'] == begins, i
    shares = [1, 1 / 2, 1, 3 / 4, 1 / 2, 1 / 4, 1, 3 / 4, 1 / 2, 1 / 4]
    assert [step['lr'] for step in seen] == pytest.approx([1e-3 * share for share in shares])

    # The last teacher is in the checkpoint, and needed to go on.
    path = f'{runner.work_dir}/iter_10.pth'
    checkpoint = read_checkpoint(path)
    saved = {k.removeprefix('denoiser.'): v for k, v in checkpoint.pop('teacher').items()}
    assert equal(saved, dict(seen[-1]['teacher']))
    assert not any('teacher' in name for name in checkpoint['state_dict'])
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='teacher'):
        trainer('pd', **dict(PD, max_iters=12), load_from=path, resume=True).train()


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


def test_wrong_company(trainer):
    with pytest.raises(InputError, match='HalvingCurriculum'):
        trainer('ict', custom_hooks=[dict(type='ProgressiveDistillationHook')]).train()
    runner = trainer('pd')
    runner.param_schedulers = dict(type='CosineAnnealingLR', by_epoch=False, T_max=8)
    with pytest.raises(InputError, match='param_scheduler'):
        runner.train()
