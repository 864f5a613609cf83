"""Every random draw has an owner."""

import numpy as np
import pytest
import torch
from torch.nn.functional import dropout

from mmagic_cm.diffusion.noise import BatchNoise, PerSampleNoise, derive_seed, seeded_globals


def test_seeds_are_distinct():
    keys = [(a, b, word) for a in range(20) for b in range(20) for word in ('noise', 'label')]
    keys += [(a, b) for a in range(20) for b in range(20)]
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_seeds_fit_torch_and_are_spread():
    seeds = [derive_seed(0, i) for i in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Uniform over 63 bits: the mean of n draws lies within five standard errors of the middle.
    assert np.mean(seeds) / 2**63 == pytest.approx(0.5, abs=5 / np.sqrt(12 * len(seeds)))


@pytest.mark.parametrize('kind', [np.int64, np.int32, float, torch.tensor])
def test_equal_numbers_give_equal_seeds(kind):
    """A seed from numpy prints otherwise (numpy 2), but it is the same number."""
    assert derive_seed(kind(3), kind(7), 'noise') == derive_seed(3, 7, 'noise')


def test_a_stream_depends_on_seed_and_index_alone():
    like = torch.empty(4, 1, 3, 3)
    together = PerSampleNoise(5, [0, 1, 2, 3])
    first, second = together(like), together(like)
    for batch in ([3, 1], [2], [0, 9, 3]):
        noise = PerSampleNoise(5, batch)
        like = torch.empty(len(batch), 1, 3, 3)
        for whole in (first, second):
            part = noise(like)
            for row, i in enumerate(batch):
                assert i > 3 or torch.equal(part[row], whole[i])
    draws = torch.cat([first, second, PerSampleNoise(6, [0, 1, 2, 3])(torch.empty(4, 1, 3, 3))])
    assert len(draws.flatten(1).unique(dim=0)) == 12


def test_streams_do_not_touch_the_global_generator():
    state = torch.get_rng_state()
    PerSampleNoise(0, range(3))(torch.empty(3, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_streams_are_standard_normal():
    n, d = 200, 500
    draw = PerSampleNoise(1, range(n))(torch.empty(n, d))
    assert draw.dtype == torch.float32
    assert draw.mean().item() == pytest.approx(0, abs=5 / np.sqrt(n * d))
    assert draw.var().item() == pytest.approx(1, abs=5 * np.sqrt(2 / (n * d)))
    # Neighbouring streams are unrelated: their correlations are those of independent draws.
    correlations = (draw[:-1] * draw[1:]).mean(1)
    assert correlations.abs().max() < 5 / np.sqrt(d)


def test_one_stream_for_the_batch():
    like = torch.empty(4, 1, 3, 3)
    noise = BatchNoise(5, range(4))
    first, second = noise(like), noise(like)
    again = BatchNoise(5, range(4))
    assert torch.equal(again(like), first)
    assert torch.equal(again(like), second)
    # Not a function of the image: the second of four is not the only one of a batch of its own.
    alone = BatchNoise(5, [1])(torch.empty(1, 1, 3, 3))
    other = BatchNoise(6, range(4))(like)
    assert len(torch.cat([first, second, alone, other]).flatten(1).unique(dim=0)) == 13
    state = torch.get_rng_state()
    draw = BatchNoise(1, range(200))(torch.empty(200, 500))
    assert torch.equal(torch.get_rng_state(), state)
    assert draw.mean().item() == pytest.approx(0, abs=5 / np.sqrt(100_000))
    assert draw.var().item() == pytest.approx(1, abs=5 * np.sqrt(2 / 100_000))


def test_seeded_globals_give_equal_masks_and_restore():
    x = torch.ones(1000)
    state = torch.get_rng_state()
    masks = []
    for seed in (1, 1, 2):
        with seeded_globals(seed, x.device):
            masks.append(dropout(x, 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_seeded_globals_restore_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded_globals(1, torch.device('cpu')):
        dropout(torch.ones(1 // 0), 0.5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_seeded_globals_on_a_gpu():
    x = torch.ones(1000, device='cuda')
    state = torch.cuda.get_rng_state()
    masks = []
    for _ in range(2):
        with seeded_globals(1, x.device):
            masks.append(dropout(x, 0.5))
    assert torch.equal(*masks)
    assert torch.equal(torch.cuda.get_rng_state(), state)
