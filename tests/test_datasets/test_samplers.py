"""Which image belongs to which draw."""

import itertools

import pytest

from mmagic_cm.datasets import ResumableSampler, samplers
from mmagic_cm.registry import DATA_SAMPLERS

SIZE = 10


def draws(count: int, start: int = 0, seed: int = 0, size: int = SIZE, **settings) -> list:
    sampler = ResumableSampler(range(size), seed=seed, **settings)
    sampler.start = start
    return [*itertools.islice(sampler, count)]


def order(*args, **settings) -> list[int]:
    return [index for index, _ in draws(*args, **settings)]


@pytest.mark.parametrize('start', [0, 1, 9, 10, 11, 25])
def test_a_draw_does_not_depend_on_where_the_run_started(start):
    assert draws(20, start=start) == draws(start + 20)[start:]


def test_keys_are_seed_and_draw():
    assert [key for _, key in draws(5, start=3, seed=8)] == [(8, k) for k in range(3, 8)]


def test_each_epoch_and_seed_has_a_permutation_of_its_own():
    epochs = [
        tuple(order(SIZE, start=SIZE * epoch, seed=seed)) for epoch in range(20) for seed in (0, 1)
    ]
    assert all(sorted(epoch) == [*range(SIZE)] for epoch in epochs)
    assert len(set(epochs)) == 40
    assert len({epoch[0] for epoch in epochs}) > 5


def test_without_shuffling_the_order_is_that_of_the_data_set():
    assert order(25, shuffle=False) == [*range(10), *range(10), *range(5)]


@pytest.mark.parametrize('world', [2, 3])
@pytest.mark.parametrize('start', [0, 12])
def test_processes_share_the_sequence_of_one(monkeypatch, world, start):
    # 10 images over 3 processes: epochs do not end together.
    alone = draws(30, start=start)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world))
        shares.append(draws(30 // world, start=start))
    together = [draw for step in zip(*shares, strict=True) for draw in step]
    assert together == alone


@pytest.mark.parametrize(('world', 'length'), [(1, 10), (2, 5), (3, 4)])
def test_length_is_the_share_of_an_epoch(monkeypatch, world, length):
    monkeypatch.setattr(samplers, 'get_dist_info', lambda: (0, world))
    assert len(ResumableSampler(range(SIZE), seed=0)) == length


def test_default_seed_is_the_one_all_processes_agree_on(monkeypatch):
    monkeypatch.setattr(samplers, 'sync_random_seed', lambda: 42)
    sampler = DATA_SAMPLERS.build(dict(type='ResumableSampler', dataset=range(SIZE)))
    assert [*itertools.islice(sampler, 5)] == draws(5, seed=42)
