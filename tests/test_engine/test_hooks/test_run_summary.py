"""What a run says before it begins, and that saying it changes nothing."""

import random
import re

import numpy as np
import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import RunSummaryHook
from mmagic_cm.engine.hooks import run_summary as run_summary_hook
from mmagic_cm.engine.hooks.run_summary import duration, seconds_per_iteration

# The hook is in the runtime of all configs; the trainer has it without its measuring.
MEASURE = dict(default_hooks__run_summary__measure=True)
DROPOUT = dict(model__denoiser__network__dropout=0.3)


@pytest.fixture
def logged():
    """What a Runner's log says."""

    def follow(runner) -> list[str]:
        lines = []
        runner.logger.info = lines.append
        return lines

    return follow


@pytest.mark.parametrize('objective', ['ct', 'ect'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(optim_wrapper__accumulative_counts=2),
        dict(optim_wrapper__type='MixedPrecisionOptimWrapper'),
    ],
    ids=['plain', 'accumulating', 'bf16'],
)
def test_a_run_with_it_is_the_same_to_the_last_bit(trainer, after_each, equal, objective, options):
    ends, seen = [], []
    for settings in {}, MEASURE:
        runner = trainer(
            objective,
            watch := after_each(lambda runner, batch, outputs: (batch, outputs['loss'].detach())),
            work_dir=f'{len(settings)}',
            max_iters=4,
            **options,
            **settings,
            **DROPOUT,
        )
        runner.train()
        checkpoint = read_checkpoint(f'{runner.work_dir}/iter_4.pth')
        ends.append([checkpoint[name] for name in ('state_dict', 'emas', 'optimizer')])
        seen.append(watch.seen)
    assert equal(*seen)
    assert equal(*ends)


def test_a_resumed_run_with_it_is_the_same(trainer, equal):
    whole = trainer('ect', work_dir='whole', default_hooks__checkpoint__interval=3, **DROPOUT)
    whole.train()
    resumed = trainer(
        'ect',
        work_dir='resumed',
        **MEASURE,
        resume=True,
        load_from=f'{whole.work_dir}/iter_3.pth',
        **DROPOUT,
    )
    resumed.train()
    ends = [read_checkpoint(f'{run.work_dir}/iter_8.pth') for run in (whole, resumed)]
    for name in 'state_dict', 'emas', 'optimizer':
        assert equal(*(end[name] for end in ends))


def test_measuring_leaves_no_trace(trainer, snapshot, equal):
    runner = trainer('ct', **DROPOUT)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    model = runner.model.eval()
    model.loss_by_noise_level.update(torch.ones(1), torch.ones(1))
    weights, statistics, progress = snapshot(model), model.loss_by_noise_level, model.progress
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

    assert seconds_per_iteration(runner) > 0

    assert equal(snapshot(model), weights)
    assert not model.training
    assert model.progress is progress
    assert model.loss_by_noise_level is statistics
    assert sum(statistics.take().values()) == 1
    assert all(p.grad is None for p in model.parameters())
    assert not runner.optim_wrapper.optimizer.state
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_failing_step_leaves_no_trace(trainer, monkeypatch):
    runner = trainer('ct', **MEASURE)
    progress, statistics = runner.model.progress, runner.model.loss_by_noise_level

    def fail(*args, **settings):
        raise MemoryError

    monkeypatch.setattr(run_summary_hook.torch.autograd, 'grad', fail)
    with pytest.raises(MemoryError):
        runner.train()
    assert runner.model.progress is progress
    assert runner.model.loss_by_noise_level is statistics


def test_says_what_there_is_to_know(trainer, logged):
    runner = trainer('ict', max_iters=8, **MEASURE)
    lines = logged(runner)
    runner.train()
    data, network, run, time = lines[:4]
    assert data == 'Data: 1,400 images in 10 classes; of 100 looked at, all are 8 x 8 pixels.'
    count = sum(p.numel() for p in runner.model.denoiser.parameters())
    assert network == f'Network: {count:,} parameters.'
    assert run == 'Run: 8 iterations of 8 images, 64 images in all, 0.0 times the data set.'
    assert re.fullmatch(r'Duration: about .+ on this CPU, if the data keep up .+', time)


def test_says_where_a_resumed_run_goes_on(trainer, logged):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    checkpoint = f'{first.work_dir}/iter_2.pth'
    options = dict(resume=True, load_from=checkpoint, optim_wrapper__accumulative_counts=2)
    resumed = trainer('ict', max_iters=4, **MEASURE, **options)
    lines = logged(resumed)
    resumed.train()
    [run] = [line for line in lines if line.startswith('Run: ')]
    assert run.endswith(
        'The optimizer takes a step every 2 iterations. It goes on after iteration 2.'
    )
    done = trainer('ict', max_iters=2, work_dir='done', **MEASURE, **options)
    lines = logged(done)
    done.train()
    assert not any(line.startswith('Duration') for line in lines)


@pytest.mark.parametrize(
    ('passes', 'expected'), [([30.0], 30.0), ([15.0, 8.0], 8.0), ([9.0, 2.0, 10.0], 6.0)]
)
def test_a_slow_device_is_not_asked_for_more(passes, expected, trainer, at_start, monkeypatch):
    clock = iter([time for seconds in passes for time in (0.0, seconds)])
    monkeypatch.setattr(run_summary_hook, 'now', lambda device: next(clock))
    measured = at_start(seconds_per_iteration)
    trainer('ict', measured, max_iters=1).train()
    assert measured.seen == [expected]
    assert next(clock, None) is None


def test_times_what_is_left_of_the_run(trainer, monkeypatch):
    """Passes are timed at a sixth, a half and five sixths, and the first one does not count."""
    runner = trainer('ect', max_iters=60)
    moments, clock = [], iter([0.0, 9.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0])
    monkeypatch.setattr(run_summary_hook, 'now', lambda device: next(clock))
    loss = type(runner.model).loss

    def noting(model, *args):
        moments.append((model.progress.iteration, model.progress.total_steps, model.training))
        return loss(model, *args)

    monkeypatch.setattr(type(runner.model), 'loss', noting)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    assert seconds_per_iteration(runner) == 2.0
    assert moments == [(i, 60, True) for i in (10, 10, 30, 50)]


def test_can_be_told_not_to_measure(trainer, logged, monkeypatch):
    monkeypatch.setattr(run_summary_hook, 'seconds_per_iteration', None)
    runner = trainer('ict', max_iters=1)
    lines = logged(runner)
    runner.train()
    assert any(line.startswith('Run: ') for line in lines)


def test_begins_before_the_clock_of_the_log():
    assert RunSummaryHook.priority == 'HIGHEST'


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.2, 'a second'),
        (1.4, '1 s'),
        (59.4, '59 s'),
        (60, '1 min'),
        (61, '1 min 1 s'),
        (3600 * 3 + 60 * 20 + 5, '3 h 20 min'),
        (3600 * 24 - 1, '24 h'),
        (86400 * 5 + 3600 * 3, '5 d 3 h'),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
