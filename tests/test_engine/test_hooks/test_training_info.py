"""What a run logs, at what cost, and when it stops by itself."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmagic_cm.engine import TrainingInfoHook
from mmagic_cm.engine.hooks import training_info as training_info_hook
from mmagic_cm.errors import InputError
from mmagic_cm.models.statistics import LossByNoiseLevel

FIGURES = {'iter', 'step', 'lr', 'loss', 'iterations_per_s', 'time', 'data_time'}
FIGURES |= {'images_seen', 'hours_left', 'num_scales'}
BINS = ['loss_sigma_0-0.1', 'loss_sigma_0.1-1', 'loss_sigma_1-10', 'loss_sigma_10-inf']


EVERY = dict(default_hooks__logger__interval=1)


def loss_of(runner, batch, outputs) -> float:
    return float(outputs['loss'])


@pytest.mark.parametrize(
    ('interval', 'images', 'logged'),
    [
        (2, 1000, [2, 4, 6, 8]),
        (3, 1000, [3, 6]),
        # LoggerHook logs the end of an epoch that is shorter than its interval, too.
        (5, 3 * 8, [3, 5]),
    ],
)
def test_each_line_of_the_log_has_the_mean_loss_since_the_last_one(
    trainer, after_each, read_log, interval, images, logged
):
    watch = after_each(loss_of)
    runner = trainer(
        'ict',
        watch,
        default_hooks__logger__interval=interval,
        train_dataloader__dataset__indices=images,
    )
    runner.train()
    lines = read_log(runner)
    assert [line['step'] for line in lines] == logged
    for begin, line in zip([0, *logged], lines, strict=False):
        losses = watch.seen[begin : line['step']]
        assert line['loss'] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert set(line) & set(BINS)
        assert set(line) - set(BINS) == FIGURES


def test_what_the_objective_has_to_say(trainer, read_log):
    runner = trainer('sct', max_iters=2)
    runner.train()
    [line] = read_log(runner)
    assert line['nonfinite_tangents'] == 0


def test_losses_by_noise_level_add_up_to_the_loss(trainer, read_log, monkeypatch):
    sigmas = []
    update = LossByNoiseLevel.update

    def noting(self, losses, levels):
        sigmas.append(levels)
        update(self, losses, levels)

    monkeypatch.setattr(LossByNoiseLevel, 'update', noting)
    runner = trainer('ict', max_iters=2)
    runner.train()
    [line] = read_log(runner)
    sigmas = torch.cat(sigmas)
    counts = torch.histc(sigmas.log10(), 4, -2, 2)  # edges 0.1, 1, 10
    assert counts.sum() == len(sigmas) == 16
    total = sum(line.get(name, 0) * count for name, count in zip(BINS, counts, strict=True))
    assert float(total) / 16 == pytest.approx(line['loss'], rel=1e-5)
    assert [name in line for name in BINS] == [bool(count) for count in counts]


def test_iterations_per_second_are_counted_by_the_clock(trainer, read_log, monkeypatch):
    ticks = iter(range(100))
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * 0.5)
    monkeypatch.setattr(training_info_hook, 'time', clock)
    runner = trainer('edm', max_iters=4)
    runner.train()
    # Two iterations between two looks at the clock.
    assert [line['iterations_per_s'] for line in read_log(runner)] == [4.0, 4.0]


def test_figures_are_not_read_before_they_are_logged(trainer):
    # Nothing can be read from a meta tensor: an attempt raises, as float() does below.
    runner = trainer('edm', default_hooks__logger__interval=4)
    hook = TrainingInfoHook()
    hook.before_train(runner)
    outputs = dict(loss=torch.ones((), device='meta'))
    for iteration in range(3):
        runner.train_loop._iter = iteration
        hook.after_train_iter(runner, iteration, outputs=outputs)
    runner.train_loop._iter = 3
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        hook.after_train_iter(runner, 3, outputs=outputs)


@pytest.mark.parametrize('objective', ['ct', 'ict'])
def test_figures_do_not_change_the_gradient(trainer, monkeypatch, equal, objective):
    ends = []
    for update in LossByNoiseLevel.update, lambda *_: None:
        monkeypatch.setattr(LossByNoiseLevel, 'update', update)
        runner = trainer(objective, work_dir=f'{len(ends)}', max_iters=3)
        runner.train()
        ends.append(runner.model.state_dict())
    assert equal(*ends)


def checkpoints(runner) -> list[str]:
    return sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))


def test_a_loss_that_is_not_finite_stops_the_run(trainer, poison):
    runner = trainer('edm', poison(5), default_hooks__checkpoint__interval=2, **EVERY)
    last = f'{runner.work_dir}/iter_4.pth'
    with pytest.raises(InputError, match=rf'nan .* 6.* {last}'):
        runner.train()
    assert checkpoints(runner) == ['iter_2.pth', 'iter_4.pth']


def test_the_last_reading_comes_at_the_end_of_the_run(trainer, poison):
    runner = trainer('edm', poison(2), max_iters=3, default_hooks__logger__interval=100)
    with pytest.raises(InputError, match='iteration 3'):
        runner.train()
    assert checkpoints(runner) == []


def test_stock_runtime_info_still_trains(trainer, read_log):
    runtime_info = dict(type='RuntimeInfoHook', _delete_=True)
    runner = trainer('ct', max_iters=4, default_hooks__runtime_info=runtime_info)
    runner.train()
    assert [line['step'] for line in read_log(runner)] == [2, 4]
    assert all(math.isfinite(line['loss']) for line in read_log(runner))


def test_progress_is_logged(trainer, read_log):
    runner = trainer('edm', max_iters=4)
    runner.train()
    lines = read_log(runner)
    assert [line['images_seen'] for line in lines] == [2 * 8, 4 * 8]
    assert all(line['hours_left'] >= 0 for line in lines)
    # A resumed run counts on.
    resumed = trainer('edm', resume=True, max_iters=6)
    resumed.train()
    assert read_log(resumed)[-1]['images_seen'] == 6 * 8


@pytest.mark.parametrize('objective', ['edm', 'ct', 'ict', 'ect'])
def test_the_curriculum_is_logged_where_there_is_one(trainer, read_log, objective):
    runner = trainer(objective, max_iters=4, **EVERY)
    runner.train()
    curriculum = getattr(runner.model.objective, 'curriculum', None)
    for step, line in enumerate(read_log(runner)):
        scales = curriculum(step, 4)[1] if objective in {'ct', 'ict'} else None
        assert line.get('num_scales') == scales
        ema = curriculum(step, 4)[0] if objective == 'ct' else None
        assert line.get('target_ema') == ema


def test_a_stage_with_a_curriculum_logs_it(trainer, read_log):
    ct = dict(
        type='ConsistencyTraining',
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=40, start_ema=0.9),
    )
    stages = [(0.5, dict(type='DenoisingScoreMatching')), (1.0, ct)]
    runner = trainer(dict(type='StagedObjective', stages=stages), max_iters=4, **EVERY)
    runner.train()
    lines = read_log(runner)
    assert ['num_scales' in line for line in lines] == [False, False, True, True]
    # It counts its own steps.
    assert lines[2]['num_scales'] == 2
    assert lines[2]['target_ema'] == pytest.approx(0.9**2, rel=1e-6)


@pytest.mark.parametrize(('loss_scale', 'overflows'), [(128.0, False), (2.0**120, True)])
def test_float16_and_clipping_are_logged(trainer, read_log, loss_scale, overflows):
    runner = trainer(
        'ict',
        max_iters=4,
        optim_wrapper__type='MixedPrecisionOptimWrapper',
        optim_wrapper__dtype='float16',
        optim_wrapper__loss_scale=loss_scale,
        optim_wrapper__clip_grad=dict(max_norm=1.0),
    )
    runner.train()
    for line in read_log(runner):
        assert line['loss_scale'] == loss_scale
        # Where gradients overflow the norm of none is logged, and stops no run.
        assert ('grad_norm' not in line) == overflows
        assert overflows or line['grad_norm'] > 0


def test_tensorboard_gets_figures_and_grids(trainer):
    events = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    grid = dict(type='SampleGridHook', interval=2, num_rows=1, num_columns=2)
    runner = trainer('ct', max_iters=4, custom_hooks=[grid])
    runner.train()
    reader = events.EventAccumulator(str(Path(runner.log_dir) / 'vis_data'))
    reader.Reload()
    known = reader.Tags()
    assert {'loss', 'lr', 'num_scales', 'target_ema', 'images_seen'} <= {*known['scalars']}
    assert [event.step for event in reader.Scalars('loss')] == [2, 4]
    assert [event.step for event in reader.Images('samples')] == [2, 4]
