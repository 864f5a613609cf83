"""Checkpoints of a run that went wrong."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import CheckpointHook
from mmagic_cm.engine.hooks import checkpoint as checkpoint_hook
from mmagic_cm.engine.hooks.ema import find_ema_hook
from mmagic_cm.errors import InputError
from mmagic_cm.registry import METRICS


@METRICS.register_module(force=True)
class Score(BaseMetric):
    """Scores that were given beforehand."""

    default_prefix = 'test'

    def __init__(self, scores):
        super().__init__()
        self.scores = [*scores]

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=self.scores.pop(0))


class Spoil(Hook):
    """Fill the tensor that ``choose(runner)`` returns, after an iteration, before it is saved."""

    def __init__(self, iteration: int, choose: Callable, value: float) -> None:
        self.iteration = iteration
        self.choose = choose
        self.value = value

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            self.choose(runner).data.fill_(self.value)


def online(runner) -> torch.Tensor:
    return next(runner.model.denoiser.parameters())


def first_average(runner) -> torch.Tensor:
    return next(iter(find_ema_hook(runner).tracker.averages[0.9].values()))


@pytest.mark.parametrize(
    ('objective', 'choose', 'name'),
    [
        ('edm', online, r'state_dict\.denoiser\.'),
        ('ct', lambda runner: next(runner.model.target.parameters()), r'state_dict\.target\.'),
        ('edm', first_average, r'emas\.0\.9\.network\.'),
        ('pd', lambda runner: next(runner.model.teacher.parameters()), r'teacher\.'),
        (
            'edm',
            lambda runner: next(iter(runner.optim_wrapper.optimizer.state.values()))['exp_avg_sq'],
            r'optimizer\.state\.0\.exp_avg_sq',
        ),
    ],
)
def test_nothing_that_is_not_finite_is_saved(trainer, objective, choose, name):
    runner = trainer(
        objective,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=1,
    )
    runner.register_hook(Spoil(4, choose, math.inf), priority='BELOW_NORMAL')
    with pytest.raises(InputError, match=rf'^{name}.* iteration 4\.'):
        runner.train()
    assert [path.name for path in Path(runner.work_dir).glob('*.pth')] == ['iter_2.pth']
    latest = find_latest_checkpoint(runner.work_dir)
    assert read_checkpoint(latest)['meta']['iter'] == 2


def test_finite_weights_are_not_saved_if_their_losses_are_not(trainer):
    runner = trainer(
        'edm',
        Spoil(3, online, 1e6),
        optim_wrapper__type='MixedPrecisionOptimWrapper',
        optim_wrapper__dtype='float16',
        default_hooks__logger__interval=100,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=1,
    )
    with pytest.raises(InputError, match=r'nan .* 4\. .*/iter_2\.pth'):
        runner.train()
    assert [path.name for path in Path(runner.work_dir).glob('*.pth')] == ['iter_2.pth']


KEEP_TWO = dict(default_hooks__checkpoint__interval=2, default_hooks__checkpoint__max_keep_ckpts=2)


def test_the_oldest_goes_when_the_new_one_is_in_place(trainer, monkeypatch):
    states = []

    def noting(path, data):
        write(path, data)
        folder = Path(path).parent
        last = folder / 'last_checkpoint'
        files = sorted(path.stem for path in folder.glob('*.pth'))
        states.append((files, Path(last.read_text()).stem if last.exists() else None))

    write = checkpoint_hook.write_atomically
    monkeypatch.setattr(checkpoint_hook, 'write_atomically', noting)
    runner = trainer('edm', **KEEP_TWO)
    assert any(type(hook) is CheckpointHook for hook in runner.hooks)
    runner.train()
    assert states == [
        (['iter_2'], None),
        (['iter_2'], 'iter_2'),
        (['iter_2', 'iter_4'], 'iter_2'),
        (['iter_2', 'iter_4'], 'iter_4'),
        (['iter_2', 'iter_4', 'iter_6'], 'iter_4'),
        (['iter_2', 'iter_4', 'iter_6'], 'iter_6'),
        (['iter_4', 'iter_6', 'iter_8'], 'iter_6'),
        (['iter_4', 'iter_6', 'iter_8'], 'iter_8'),
    ]


def test_what_a_killed_run_has_left_is_removed_and_nothing_else(trainer, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in 'iter_4.pth.unfinished', 'last_checkpoint.unfinished', 'mine.pth', 'iter_1.pth':
        (folder / name).write_text('')
    runner = trainer('edm', **KEEP_TWO)
    runner.train()
    names = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py'}
    assert names == {'mine.pth', 'iter_1.pth', 'iter_6.pth', 'iter_8.pth', 'last_checkpoint'}


def test_a_resumed_run_removes_what_the_killed_one_could_not(trainer, monkeypatch, interrupt):
    run = trainer('edm', interrupt(7), **KEEP_TWO)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, '_remove_outdated', lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            run.train()
    assert len([*Path(run.work_dir).glob('*.pth')]) == 3
    trainer('edm', resume=True, **KEEP_TWO).train()
    names = {path.name for path in Path(run.work_dir).glob('*.pth')}
    assert names == {'iter_6.pth', 'iter_8.pth'}


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    checkpoint_hook.write_atomically(path, b'old')

    def fail(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space left'):
        checkpoint_hook.write_atomically(path, b'new')
    assert path.read_bytes() == b'old'
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(('interval', 'scores', 'best'), [(1, (3, 1, 2, 4), 2), (2, (2, 1), 4)])
def test_the_best_checkpoint_is_kept_and_holds_the_online_network(
    trainer, after_each, validation, interval, scores, best
):
    online = after_each(
        lambda runner, *_: runner.model.denoiser.network.out[2].weight.detach().clone()
    )
    runner = trainer(
        'edm',
        online,
        max_iters=4,
        train_cfg__val_interval=interval,
        **validation(dict(type='Score', scores=scores), 1),
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=1,
        default_hooks__checkpoint__save_best='test/score',
        default_hooks__checkpoint__rule='less',
    )
    runner.train()
    names = {path.name for path in Path(runner.work_dir).glob('*.pth')}
    assert names == {'iter_4.pth', f'best_test_score_iter_{best}.pth'}
    saved = read_checkpoint(Path(runner.work_dir) / f'best_test_score_iter_{best}.pth')
    weight = saved['state_dict']['denoiser.network.out.2.weight']
    assert torch.equal(weight, online.seen[best - 1])
    assert not torch.equal(weight, saved['emas']['0.9']['network.out.2.weight'])
