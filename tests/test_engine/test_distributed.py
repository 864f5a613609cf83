"""Processes, accumulated batches and recomputed activations change nothing but the rounding."""

import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.datasets import DigitsDataset
from mmagic_cm.diffusion.noise import seeded_globals
from mmagic_cm.errors import Stopped
from mmagic_cm.models import DataPreprocessor, consistency_model
from mmagic_cm.models.consistency_model import TrainingProgress
from mmagic_cm.objectives import Objective

BATCH, STEPS = 8, 6


def settings(**changes) -> dict:
    """Options of a run."""
    whole = dict(
        train_dataloader__batch_size=BATCH,
        max_iters=STEPS,
        # Adam would divide gradients that are nothing but rounding by their own size.
        optim_wrapper__optimizer=dict(type='SGD', lr=0.05, _delete_=True),
        param_scheduler=None,
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=-1,
    )
    return whole | changes


def share_draws(monkeypatch, rows: Callable[[int], slice]) -> None:
    """Draw for the whole batch, from the step alone; of call i keep ``rows(i)``."""
    draw, calls = Objective.draw, []

    def cut(self, x0, step, total_steps, generator=None):
        whole = x0.new_empty(BATCH, *x0.shape[1:])
        generator = torch.Generator().manual_seed(step)
        drawn = draw(self, whole, step, total_steps, generator)
        calls.append(step)
        kept = rows(len(calls) - 1)
        rows_of = {key: getattr(drawn, key)[kept] for key in ('noise', 'sigma', 'next_sigma')}
        return replace(drawn, **rows_of)

    monkeypatch.setattr(Objective, 'draw', cut)


def assert_same_end(one: Path, other: Path, other_steps: int = STEPS) -> None:
    """The last checkpoints of two runs agree to rounding, and the weights have moved."""
    first = read_checkpoint(one / 'iter_1.pth')['state_dict']
    a = read_checkpoint(one / f'iter_{STEPS}.pth')
    b = read_checkpoint(other / f'iter_{other_steps}.pth')
    for name, weight in a['state_dict'].items():
        torch.testing.assert_close(b['state_dict'][name], weight, rtol=1e-4, atol=1e-6)
    for rate, average in a['emas'].items():
        for name, weight in average.items():
            torch.testing.assert_close(b['emas'][rate][name], weight, rtol=1e-4, atol=1e-6)
    moved = max(float((a['state_dict'][k] - first[k]).abs().max()) for k in first)
    assert moved > 1e-3


@pytest.mark.parametrize('objective', ['edm', 'ct', 'ict', 'sct'])
def test_two_processes_equal_one_with_the_whole_batch(
    trainer, monkeypatch, in_processes, tmp_path, objective
):
    with monkeypatch.context() as patch:
        share_draws(patch, lambda call: slice(None))
        trainer(objective, work_dir='one', **settings()).train()

    def train(rank):
        # The sampler gives every second image to each process.
        share_draws(monkeypatch, lambda call: slice(rank, None, 2))
        options = settings(
            train_dataloader__batch_size=BATCH // 2,
            launcher='pytorch',
            model_wrapper_cfg__device_ids=None,
        )
        trainer(objective, work_dir='two', **options).train()

    assert in_processes(2, train) == [0, 0]
    assert_same_end(tmp_path / 'one', tmp_path / 'two')


def test_a_signal_to_one_process_stops_all_after_the_same_step(
    trainer, send_signal, in_processes, tmp_path
):
    def train(rank):
        hooks = [send_signal(signal.SIGTERM, 3)] if rank == 1 else []
        options = dict(launcher='pytorch', model_wrapper_cfg__device_ids=None)
        with pytest.raises(Stopped) as caught:
            trainer('edm', *hooks, optim_wrapper__accumulative_counts=2, **options).train()
        assert caught.value.number == signal.SIGTERM
        assert caught.value.said.startswith(f'saved {tmp_path}/run/iter_4.pth;')
        # The other one has waited until it is written.
        assert read_checkpoint(tmp_path / 'run/iter_4.pth')['meta']['iter'] == 4

    assert in_processes(2, train) == [0, 0]


def record_draws(monkeypatch) -> dict[str, list]:
    """What a run draws: ``noise``, ``sigmas``, seeds of ``masks``, ``data`` as (image, key)."""
    seen = dict(noise=[], sigmas=[], masks=[], data=[])
    draw, prepare = Objective.draw, DigitsDataset.prepare_data

    def noting(*args, **settings):
        drawn = draw(*args, **settings)
        seen['noise'] += drawn.noise
        seen['sigmas'] += drawn.sigma
        return drawn

    def noting_masks(seed, device):
        seen['masks'].append(seed)
        return seeded_globals(seed, device)

    def noting_data(self, key):
        seen['data'].append(key)
        return prepare(self, key)

    monkeypatch.setattr(Objective, 'draw', noting)
    monkeypatch.setattr(consistency_model, 'seeded_globals', noting_masks)
    monkeypatch.setattr(DigitsDataset, 'prepare_data', noting_data)
    return seen


@pytest.mark.parametrize('per_rank', [False, True])
def test_two_processes_draw_nothing_twice(trainer, monkeypatch, in_processes, tmp_path, per_rank):
    def train(rank):
        seen = record_draws(monkeypatch)
        options = dict(
            max_iters=3,
            launcher='pytorch',
            model_wrapper_cfg__device_ids=None,
            model__denoiser__network__dropout=0.1,
            randomness=dict(seed=5, diff_rank_seed=per_rank),
        )
        trainer('edm', **options).train()
        torch.save(seen, tmp_path / f'{rank}.pt')

    assert in_processes(2, train) == [0, 0]
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    # The ranks take turns in one shuffled epoch.
    assert [key for pair in zip(first['data'], second['data'], strict=True) for _, key in pair] == [
        (5, k) for k in range(2 * 3 * BATCH)
    ]
    assert len({image for image, _ in first['data'] + second['data']}) == 2 * 3 * BATCH
    assert len({*first['masks'], *second['masks']}) == 2 * 3
    for name in 'noise', 'sigmas':
        drawn = torch.stack(first[name] + second[name])
        assert len(drawn) == len(drawn.unique(dim=0)) == 2 * 3 * BATCH


@pytest.mark.parametrize(
    ('objective', 'wrapper'),
    [
        ('edm', 'OptimWrapper'),
        ('ct', 'OptimWrapper'),
        ('ict', 'OptimWrapper'),
        ('ct', 'MixedPrecisionOptimWrapper'),
    ],
)
def test_accumulated_halves_equal_the_whole_batch(
    trainer, monkeypatch, tmp_path, objective, wrapper
):
    with monkeypatch.context() as patch:
        share_draws(patch, lambda call: slice(None))
        trainer(objective, work_dir='whole', **settings()).train()
    options = settings(
        max_iters=2 * STEPS,
        train_dataloader__batch_size=BATCH // 2,
        optim_wrapper__accumulative_counts=2,
        optim_wrapper__type=wrapper,
    )
    half = BATCH // 2
    share_draws(monkeypatch, lambda call: slice(call % 2 * half, (call % 2 + 1) * half))
    if wrapper == 'MixedPrecisionOptimWrapper':
        # In float32: what is accumulated is tested here, not what is rounded.
        monkeypatch.setattr(torch, 'autocast', lambda *args, **options: nullcontext())
    trainer(objective, work_dir='halves', **options).train()
    assert_same_end(tmp_path / 'whole', tmp_path / 'halves', 2 * STEPS)


@pytest.mark.parametrize('objective', ['ct', 'ict'])
def test_recomputed_activations_give_the_same_gradients(build_model, objective):
    curriculum = dict(type='GrowingCurriculum', start_scales=2, end_scales=40, start_ema=0.9)
    names = dict(ct='ConsistencyTraining', ict='ImprovedConsistencyTraining')
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    data = DataPreprocessor()(dict(inputs=images))['inputs']
    gradients = []
    for use_checkpoint, dropout in (False, 0.4), (True, 0.4), (True, 0.0):
        model = build_model(
            dict(use_checkpoint=use_checkpoint, dropout=dropout),
            objective=dict(type=names[objective], curriculum=curriculum),
        ).train()
        model.progress = TrainingProgress(seed=0, iteration=5, step=5, total_steps=10)
        model.loss(data, torch.arange(4))['loss'].backward()
        gradients.append([p.grad for p in model.denoiser.parameters()])
    for plain, recomputed in zip(*gradients[:2], strict=True):
        assert torch.equal(plain, recomputed)
    assert not all(map(torch.equal, gradients[1], gradients[2]))
