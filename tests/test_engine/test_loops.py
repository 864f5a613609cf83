"""Where a run begins, ends, validates, and what it reads."""

import multiprocessing
from pathlib import Path

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmagic_cm.datasets import DigitsDataset
from mmagic_cm.engine import ResumableIterLoop
from mmagic_cm.errors import InputError
from mmagic_cm.registry import METRICS


@METRICS.register_module(force=True)
class CountImages(BaseMetric):
    """How many images of which shapes a validation drew."""

    default_prefix = 'test'

    def process(self, data_batch, data_samples):
        self.results += [tuple(sample['image'].shape) for sample in data_samples]

    def compute_metrics(self, results):
        assert set(results) == {(1, 8, 8)}
        return dict(images=len(results))


class StopAt(Hook):
    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            runner.train_loop.stop_training = True


def test_run_ends_at_max_iters_and_reads_each_draw_once(trainer, monkeypatch):
    draws = []
    prepare = DigitsDataset.prepare_data

    def noting(self, draw):
        draws.append(draw)
        return prepare(self, draw)

    monkeypatch.setattr(DigitsDataset, 'prepare_data', noting)
    runner = trainer('edm', max_iters=5, randomness__seed=3)
    runner.train()
    assert isinstance(runner.train_loop, ResumableIterLoop)
    assert runner.iter == 5
    assert [key for _, key in draws] == [(3, k) for k in range(5 * 8)]
    assert len({index for index, _ in draws}) == 40  # of the first epoch


def test_stop_training_ends_the_run(trainer):
    runner = trainer('edm', StopAt(3))
    runner.train()
    assert runner.iter == 3


@pytest.mark.parametrize('persistent', [False, True])
def test_only_its_own_workers_live_through_the_run(trainer, after_each, persistent):
    watch = after_each(lambda *_: len(multiprocessing.active_children()))
    before = len(multiprocessing.active_children())
    options = dict(num_workers=1, persistent_workers=persistent)
    options = {f'train_dataloader__{name}': value for name, value in options.items()}
    trainer('edm', watch, max_iters=2, **options).train()
    assert watch.seen == [before + 1] * 2


def test_two_runs_do_not_share_a_work_directory(trainer, at_start):
    with pytest.raises(InputError, match=r'/run '):
        trainer('edm', at_start(lambda runner: trainer('edm').train())).train()
    # The first was stopped by that, and holds up nobody.
    runner = trainer('edm', max_iters=1)
    runner.train()
    assert not (Path(runner.work_dir) / '.lock').exists()


def test_another_sampler_is_refused(trainer):
    sampler = dict(type='InfiniteSampler', _delete_=True)
    with pytest.raises(InputError, match='ResumableSampler'):
        trainer('edm', train_dataloader__sampler=sampler).train()


@pytest.mark.parametrize(
    ('begin', 'interval', 'accumulated', 'expected'),
    [
        (1, 2, 1, [2, 4, 5]),
        (3, 2, 1, [4, 5]),
        (1, 100, 1, [5]),
        # When a step ends, as checkpoints: the best one is saved then.
        (1, 3, 2, [4, 5]),
    ],
)
def test_validation_at_its_interval_and_at_the_end(
    trainer, validation, begin, interval, accumulated, expected, read_log
):
    runner = trainer(
        'edm',
        max_iters=5,
        optim_wrapper__accumulative_counts=accumulated,
        train_cfg__val_begin=begin,
        train_cfg__val_interval=interval,
        **validation(dict(type='CountImages'), 5, batch_size=3),
    )
    runner.train()
    validated = [line for line in read_log(runner) if 'test/images' in line]
    assert [line['step'] for line in validated] == expected
    assert {line['test/images'] for line in validated} == {5}
