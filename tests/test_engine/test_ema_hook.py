"""The averages of a run, in its checkpoints."""

import copy
from pathlib import Path

import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import EMAHook
from mmagic_cm.errors import InputError

RATES = (0.5, 0.9)  # of the trainer's EMAHook


@pytest.mark.parametrize('accumulate', [1, 2])
def test_averages_take_each_optimizer_step_once(trainer, after_each, snapshot, accumulate):
    watch = after_each(lambda runner, *_: snapshot(runner.model.denoiser))
    runner = trainer('ict', watch, optim_wrapper__accumulative_counts=accumulate)
    start = snapshot(runner.model.denoiser)
    runner.train()
    saved = read_checkpoint(f'{runner.work_dir}/iter_8.pth')['emas']
    assert list(saved) == ['0.5', '0.9']
    for rate in RATES:
        average = start
        for online in watch.seen[accumulate - 1 :: accumulate]:
            average = {k: rate * average[k] + (1 - rate) * v for k, v in online.items()}
        torch.testing.assert_close(dict(saved[str(rate)]), average, rtol=1e-5, atol=1e-7)


def test_averages_start_from_what_load_from_loaded(trainer, at_start, snapshot, equal):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    trained = snapshot(first.model.denoiser)

    def averages(runner):
        [hook] = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        return copy.deepcopy(list(hook.tracker.averages.values()))

    # Not from the file's own averages: those belong to the run before.
    watch = at_start(averages)
    trainer('ict', watch, load_from=f'{first.work_dir}/iter_2.pth', max_iters=1).train()
    assert equal(watch.seen, [[trained, trained]])


def test_resuming_needs_averages(trainer):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    path = Path(first.work_dir) / 'iter_2.pth'
    checkpoint = read_checkpoint(path)
    del checkpoint['emas']
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match='holds no EMAs'):
        trainer('ict', load_from=str(path), resume=True).train()


def test_resuming_needs_every_rate(trainer):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    path = f'{first.work_dir}/iter_2.pth'
    with pytest.raises(InputError, match=r'no EMA of rate 0\.7; it has: 0\.5, 0\.9'):
        trainer('ict', load_from=path, resume=True, custom_hooks__1__rates=(0.7,)).train()
