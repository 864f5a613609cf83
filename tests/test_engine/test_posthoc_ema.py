"""Power-function averages: the reference's numbers, closed forms, and a run."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mmagic_cm.checkpoints import Checkpoint, read_checkpoint
from mmagic_cm.engine import EMAHook
from mmagic_cm.engine.averages import EMATracker
from mmagic_cm.engine.posthoc_ema import (
    find_snapshots,
    posthoc_coefficients,
    power_beta,
    profile_overlap,
    reconstruct,
    sigma_rel_to_gamma,
)
from mmagic_cm.errors import InputError

CLOSE = dict(rtol=1e-8, atol=1e-8)


@pytest.fixture
def recorded(data) -> dict:
    return json.loads((data / 'goldens/phema.json').read_text())


def test_numbers_of_the_reference(recorded):
    for sigma_rel, gamma, _ in recorded['gamma']:
        assert sigma_rel_to_gamma(sigma_rel) == pytest.approx(gamma, rel=1e-8)
    for sigma_rel, t, delta, beta in recorded['beta']:
        assert power_beta(sigma_rel, t, delta) == pytest.approx(beta, abs=1e-8)
    for *profiles, value in recorded['overlap']:
        assert profile_overlap(*profiles) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize('kind', ['even', 'uneven'])
def test_plans_of_the_reference(kind, recorded):
    for plan in recorded['plans'][kind]:
        found = posthoc_coefficients([*map(tuple, plan['snapshots'])], tuple(plan['target']))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, plan['X'], **CLOSE)


def test_a_walk_of_the_reference(goldens):
    """Tracked as a module's parameter, and put together from two averages' snapshots."""
    walk = goldens('phema_walk')
    module = nn.Linear(4, 1, bias=False).double()
    stds, every = walk['stds'].tolist(), len(walk['walk']) // len(walk['snapshot_images'])
    tracker = EMATracker(module, [f'sigma_rel={std}' for std in stds])
    tracked = []
    for step, row in enumerate(walk['walk'], start=1):
        module.weight.data[0] = row.double()
        tracker.update(step)
        if step % every == 0:
            now = [average['weight'][0].clone() for average in tracker.averages.values()]
            tracked.append(torch.stack(now))
    tracked = torch.stack(tracked)
    torch.testing.assert_close(tracked, walk['tracked'], **CLOSE)

    widths = walk['snapshot_stds'].tolist()
    times = [(t, width) for t in walk['snapshot_images'].tolist() for width in widths]
    kept = tracked[:, [stds.index(width) for width in widths]].flatten(0, 1)
    for i, target in enumerate(walk['targets'].tolist()):
        found = posthoc_coefficients(times, (times[-1][0], target))
        np.testing.assert_allclose(found, walk['coefficients'][i], **CLOSE)
        rebuilt = torch.from_numpy(found) @ kept
        torch.testing.assert_close(rebuilt, walk['reconstructed'][i], **CLOSE)
        error = (rebuilt - tracked[-1, i]).norm() / tracked[-1, i].norm()
        assert float(error) == pytest.approx(float(walk['relative_error'][i]), abs=1e-8)


@pytest.mark.parametrize('sigma_rel', [0.01, 0.05, 0.1, 0.25])
def test_the_width_of_a_profile(sigma_rel):
    """Of s^gamma on [0, 1], by its moments; and steps of power_beta weight s by it."""
    gamma = sigma_rel_to_gamma(sigma_rel)
    mean = (gamma + 1) / (gamma + 2)
    assert ((gamma + 1) / (gamma + 3) - mean**2) ** 0.5 == pytest.approx(sigma_rel)
    assert power_beta(sigma_rel, 1, 1) == 0
    share, shares = 1.0, []
    for step in range(4000, 0, -1):
        beta = power_beta(sigma_rel, step, 1)
        shares.append(share * (1 - beta))
        share *= beta
    times = np.arange(4000, 0, -1) / 4000
    assert sum(shares) == pytest.approx(1)
    assert np.average(times, weights=shares) == pytest.approx(mean, rel=1e-3)


def test_a_kept_average_is_its_own_reconstruction():
    times = [(t, width) for t in (10, 20, 30) for width in (0.05, 0.1)]
    np.testing.assert_allclose(posthoc_coefficients(times, (20, 0.1)), [0, 0, 0, 1, 0, 0], **CLOSE)


def test_refusals():
    for width in 0, -0.1, 0.3:
        with pytest.raises(InputError, match='sigma_rel must'):
            sigma_rel_to_gamma(width)
    with pytest.raises(InputError, match='no snapshot up to time 5'):
        posthoc_coefficients([(10, 0.05)], (5, 0.05))
    with pytest.raises(InputError, match='sigma_rels'):
        EMAHook(snapshot_interval=10)
    assert EMAHook(sigma_rels=(0.1,), evaluate='sigma_rel=0.1').rates == (0.9999, 'sigma_rel=0.1')
    with pytest.raises(InputError, match=r'sigma_rel=0\.2.*sigma_rel=0\.1'):
        EMAHook(sigma_rels=(0.1,), evaluate='sigma_rel=0.2')


WIDTHS = (0.05, 0.07, 0.10)


def averaging(**settings) -> dict:
    hook = dict(type='EMAHook', rates=(0.5,), sigma_rels=WIDTHS, **settings)
    return dict(custom_hooks__1=hook)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_resumed_run_has_the_same_averages_and_snapshots(trainer, equal, accumulate, tmp_path):
    options = averaging(snapshot_interval=3 * accumulate) | dict(
        max_iters=7 * accumulate,
        optim_wrapper__accumulative_counts=accumulate,
        default_hooks__checkpoint__interval=4 * accumulate,
    )
    for name, more in (
        ('whole', {}),
        ('rest', dict(resume=True, load_from=f'{tmp_path}/whole/iter_{4 * accumulate}.pth')),
    ):
        trainer('ict', work_dir=name, **options, **more).train()
    ends = [read_checkpoint(tmp_path / f'{x}/iter_{7 * accumulate}.pth') for x in ('whole', 'rest')]
    assert equal(*(end['emas'] for end in ends))
    assert [*ends[0]['emas']] == ['0.5', *(f'sigma_rel={width}' for width in WIDTHS)]

    snapshots = {name: find_snapshots(tmp_path / name) for name in ('whole', 'rest')}
    assert [s.step for s in snapshots['whole']] == [3, 3, 3, 6, 6, 6, 7, 7, 7]
    assert [s.step for s in snapshots['rest']] == [6, 6, 6, 7, 7, 7]
    for one, other in zip(snapshots['whole'][3:], snapshots['rest'], strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    last = Checkpoint(snapshots['whole'][-1].path)
    assert last.sampling_config().model.type == 'ConsistencyModel'
    assert last.meta['ema'] == 'sigma_rel=0.1'
    average = ends[0]['emas']['sigma_rel=0.1']
    assert equal({f'denoiser.{k}': v for k, v in average.items()}, dict(last.weights()))
    assert equal(dict(Checkpoint(f'{tmp_path}/whole/iter_{7 * accumulate}.pth').weights(
        'sigma_rel=0.1'
    )), dict(last.weights()))  # fmt: skip
    with pytest.raises(InputError, match='--resume'):
        trainer('ict', work_dir='whole', **options).train()


def test_which_average_is_the_longest(trainer):
    runner = trainer('ict', max_iters=1, **averaging())
    runner.train()
    checkpoint = Checkpoint(f'{runner.work_dir}/iter_1.pth')
    assert checkpoint.weights('auto').keys() == checkpoint.weights(0.5).keys()
    del checkpoint.content['emas']['0.5']
    longest, named = checkpoint.weights('auto'), checkpoint.weights('sigma_rel=0.1')
    assert all(torch.equal(longest[key], named[key]) for key in named)
    with pytest.raises(InputError, match=r'sigma_rel=0\.2.*sigma_rel=0\.1'):
        checkpoint.weights('sigma_rel=0.2')


@pytest.mark.slow
def test_a_run_tells_of_an_average_that_it_did_not_keep(trainer):
    """0.07 from snapshots of 0.05 and 0.10, against the average that was tracked."""
    options = averaging(snapshot_interval=5) | dict(max_iters=40)
    runner = trainer('edm', **options)
    start = {k: v.clone() for k, v in runner.model.denoiser.state_dict().items()}
    runner.train()
    snapshots = find_snapshots(runner.work_dir)
    rebuilt = reconstruct([s for s in snapshots if s.sigma_rel != 0.07], 0.07)
    [tracked] = [s for s in snapshots if (s.step, s.sigma_rel) == (40, 0.07)]
    difference = moved = 0.0
    for name, weight in Checkpoint(tracked.path).weights(None).items():
        difference += float((rebuilt[name] - weight).square().sum())
        moved += float((weight - start[name.removeprefix('denoiser.')]).square().sum())
    assert (difference / moved) ** 0.5 < 3e-3
