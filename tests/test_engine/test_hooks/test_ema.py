"""The averages of a run, in its checkpoints."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import EMAHook
from mmagic_cm.errors import InputError
from mmagic_cm.registry import METRICS

RATES = (0.5, 0.9)  # of the trainer's EMAHook


def ema_hook(runner) -> EMAHook:
    [hook] = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    return hook


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
        return copy.deepcopy(list(ema_hook(runner).tracker.averages.values()))

    # Not from the file's own averages: those belong to the run before.
    watch = at_start(averages)
    trainer('ict', watch, load_from=f'{first.work_dir}/iter_2.pth', max_iters=1).train()
    assert equal(watch.seen, [[trained, trained]])


def test_resuming_needs_averages_of_every_rate(trained, trainer):
    with pytest.raises(InputError, match=r'0\.7; .* 0\.5, 0\.9'):
        trainer('ict', load_from=str(trained), resume=True, custom_hooks__1__rates=(0.7,)).train()
    checkpoint = read_checkpoint(trained)
    del checkpoint['emas']
    torch.save(checkpoint, trained)
    with pytest.raises(InputError, match='EMAs'):
        trainer('ict', load_from=str(trained), resume=True).train()


class WeightSpy(BaseMetric):
    """Keeps the weights that validation sees."""

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        self.seen.append({k: v.clone() for k, v in self.model.denoiser.state_dict().items()})
        return dict(images=sum(results))


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(METRICS.module_dict, 'WeightSpy', WeightSpy)
    WeightSpy.seen = []
    return WeightSpy


@pytest.mark.parametrize('evaluate', ['auto', 0.9, 0.5, None])
def test_which_weights_are_validated(
    evaluate, trainer, after_each, equal, snapshot, spy, validation
):
    online = after_each(lambda runner, *_: snapshot(runner.model.denoiser))
    options = validation(dict(type='WeightSpy'), 20) | dict(train_cfg__val_interval=2)
    runner = trainer('ict', online, max_iters=4, **options)
    spy.model = runner.model
    hook = ema_hook(runner)
    hook.evaluate = evaluate
    runner.train()
    assert len(spy.seen) == 2
    rate = max(hook.rates) if evaluate == 'auto' else evaluate
    last = hook.tracker.averages[rate] if rate is not None else online.seen[-1]
    assert equal(spy.seen[-1], dict(last))
    assert not equal(spy.seen[0], spy.seen[1])
    # And training went on with the online network.
    assert equal(snapshot(runner.model.denoiser), online.seen[-1])


@pytest.fixture
def trained(trainer) -> Path:
    """A checkpoint of two iterations, with averages of rates 0.5 and 0.9."""
    runner = trainer('ict', work_dir='first', max_iters=2)
    runner.train()
    return Path(runner.work_dir) / 'iter_2.pth'


@pytest.mark.parametrize(
    ('judge', 'rates', 'evaluate', 'judged'),
    [
        ('test', (0.5, 0.9), 'auto', '0.9'),
        ('val', (0.5, 0.9), 0.5, '0.5'),
        ('test', (0.5, 0.9), None, None),
        ('val', (0.999,), 'auto', '0.9'),  # of the file
    ],
)
def test_without_training_the_averages_of_the_checkpoint_are_judged(
    judge, rates, evaluate, judged, trained, trainer, equal, snapshot, spy, validation
):
    options = validation(dict(type='WeightSpy'), 20, when=judge)
    hook = dict(type='EMAHook', rates=rates, evaluate=evaluate)
    runner = trainer('ict', load_from=str(trained), custom_hooks__1=hook, **options)
    spy.model = runner.model
    for _ in range(2):
        getattr(runner, judge)()
    saved = read_checkpoint(trained)
    online = {key: saved['state_dict'][f'denoiser.{key}'] for key in saved['emas']['0.9']}
    expected = online if judged is None else dict(saved['emas'][judged])
    assert equal(spy.seen, [expected, expected])
    # And afterwards the online network is back.
    assert equal(snapshot(runner.model.denoiser), online)


def test_a_checkpoint_of_plain_weights_is_judged_as_it_is(
    trained, trainer, equal, snapshot, spy, validation, tmp_path
):
    weights = read_checkpoint(trained)['state_dict']
    torch.save(weights, tmp_path / 'plain.pth')
    options = validation(dict(type='WeightSpy'), 20, when='test')
    runner = trainer('ict', load_from=str(tmp_path / 'plain.pth'), **options)
    spy.model = runner.model
    runner.test()
    assert equal(spy.seen, [snapshot(runner.model.denoiser)])
    ema_hook(runner).evaluate = 0.9
    with pytest.raises(InputError, match=r'0\.9; .* none'):
        runner.test()


def test_evaluate_names_one_of_the_rates():
    with pytest.raises(InputError, match=r'0\.99'):
        EMAHook(rates=(0.9, 0.999), evaluate=0.99)
