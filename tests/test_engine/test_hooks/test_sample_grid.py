"""Pictures while a model learns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.engine.hooks import sample_grid as sample_grid_hook
from mmagic_cm.errors import InputError

ONE_STEP = dict(type='OnestepSampler')


def grid_hook(**settings) -> list[dict]:
    settings = dict(interval=2, num_rows=2, num_columns=3, sampler=ONE_STEP) | settings
    return [dict(type='SampleGridHook', **settings)]


def pictures(runner) -> dict[str, np.ndarray]:
    paths = sorted(Path(runner.work_dir, 'samples').glob('*'))
    return {path.name: np.asarray(Image.open(path)) for path in paths}


@pytest.fixture
def drawn(monkeypatch) -> list:
    """Labels and first weights of what was drawn."""
    calls, draw = [], sample_grid_hook.sample_images

    def noting(model, indices, labels, *args):
        weight = model.denoiser.network.out[2].weight.detach().clone()
        calls.append((None if labels is None else labels.tolist(), weight))
        return draw(model, indices, labels, *args)

    monkeypatch.setattr(sample_grid_hook, 'sample_images', noting)
    return calls


def test_grids_at_the_interval_and_at_the_end(trainer):
    runner = trainer('edm', max_iters=5, custom_hooks=grid_hook())
    runner.train()
    grids = pictures(runner)
    assert list(grids) == ['iter_2.png', 'iter_4.png', 'iter_5.png']
    for grid in grids.values():
        assert grid.dtype == np.uint8
        assert grid.shape[0] >= 2 * 8
        assert grid.shape[1] >= 3 * 8
        assert grid.shape[1] > grid.shape[0]


@pytest.mark.parametrize('seeds', [(0, 0), (0, 1)])
def test_grids_start_from_the_same_noise(trainer, seeds):
    # With a learning rate of 0 nothing else could change a picture.
    still = dict(optim_wrapper__optimizer__lr=0.0, param_scheduler=None, max_iters=4)
    grids = []
    for seed in seeds:
        hooks = grid_hook(seed=seed)
        runner = trainer('edm', work_dir=f'{len(grids)}', custom_hooks=hooks, **still)
        runner.train()
        grids.append(pictures(runner))
        assert np.array_equal(grids[-1]['iter_2.png'], grids[-1]['iter_4.png'])
    same = np.array_equal(grids[0]['iter_2.png'], grids[1]['iter_2.png'])
    assert same == (seeds[0] == seeds[1])


@pytest.mark.parametrize(
    ('num_classes', 'rows', 'expected'),
    [(10, 2, [0, 0, 0, 1, 1, 1]), (2, 3, [0, 0, 0, 1, 1, 1, 0, 0, 0]), (None, 2, None)],
)
def test_a_row_is_a_class(trainer, drawn, num_classes, rows, expected):
    hooks = grid_hook(num_rows=rows)
    options = dict(model__denoiser__network__num_classes=num_classes)
    if num_classes == 2:
        options['train_dataloader__dataset__indices'] = [0, 1]  # a zero and a one
        options['train_dataloader__batch_size'] = 2
    trainer('edm', max_iters=1, custom_hooks=hooks, **options).train()
    assert [labels for labels, _ in drawn] == [expected]


@pytest.mark.parametrize('ema', ['auto', 0.5, 0.9, None])
def test_grids_are_drawn_with_the_weights_asked_for(trainer, drawn, equal, ema):
    runner = trainer('edm', max_iters=3, custom_hooks=grid_hook(interval=10, ema=ema))
    runner.train()
    [emas] = [hook.tracker.averages for hook in runner.hooks if hasattr(hook, 'tracker')]
    online = runner.model.denoiser.state_dict()
    weights = {'auto': emas[0.9], 0.5: emas[0.5], 0.9: emas[0.9], None: online}[ema]
    [(_, weight)] = drawn
    assert equal(weight, weights['network.out.2.weight'])
    assert not equal(emas[0.5]['network.out.2.weight'], emas[0.9]['network.out.2.weight'])


def test_without_averages_the_online_network_draws(trainer):
    runner = trainer('edm', max_iters=1)
    runner._hooks = [hook for hook in runner.hooks if type(hook).__name__ != 'EMAHook']
    runner.register_custom_hooks(grid_hook())
    runner.train()
    assert list(pictures(runner)) == ['iter_1.png']


def test_a_rate_that_is_not_kept_is_refused_at_the_start(trainer, after_each):
    watch = after_each(lambda *_: None)
    with pytest.raises(InputError, match=r'0\.7: .* \(0\.5, 0\.9\)'):
        trainer('edm', watch, custom_hooks=grid_hook(ema=0.7)).train()
    assert watch.seen == []
