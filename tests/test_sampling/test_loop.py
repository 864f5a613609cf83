"""The one sampling loop: labels, seeds, batches."""

import numpy as np
import pytest
import torch

from mmagic_cm.diffusion.noise import BatchNoise
from mmagic_cm.diffusion.samplers import HeunSampler, MultistepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.sampling.loop import choose_labels, iter_samples, sample_images


@pytest.fixture
def unconditional(build_model):
    return build_model(dict(num_classes=None))


class StartSpy(MultistepSampler):
    """Remembers the noise that each batch starts from, and the noise that is added later."""

    def __init__(self):
        super().__init__(sigmas=(80.0, 1.0))
        self.starts, self.later = [], []

    def sample(self, denoise, x, noise, progress):
        def spied(like):
            self.later.append(noise(like))
            return self.later[-1]

        self.starts.append(x)
        return super().sample(denoise, x, spied, progress)


# --- labels ---


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (0, [0, 0, 0]),  # class 0 is a class, not "any"
        (7, [7, 7, 7]),
        (np.int64(7), [7, 7, 7]),
        (torch.tensor(7), [7, 7, 7]),
        ([3, 1, 9], [3, 1, 9]),
        ((3, 1, 9), [3, 1, 9]),
        (np.array([3, 1, 9], np.uint8), [3, 1, 9]),
        (torch.tensor([3, 1, 9], dtype=torch.int32), [3, 1, 9]),
    ],
)
def test_labels_in_all_their_forms(given, expected, model):
    found = choose_labels(model, range(3), given)
    assert found.dtype == torch.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ('given', 'name'),
    [
        (10, '10'),
        ([0, 1, -1], '-1'),
        ([1, 2], '2 .* 3'),
        (1.5, 'float32'),
        (True, 'bool'),
        ([1, 'two', 3], 'two'),
        (2**70, str(2**70)),
        ('5-10', '10'),
        ('0-99999999999', '99999999999'),
        ('-1', '-1'),
        ('3-1', "'3-1'"),
        ('', "''"),
        ('1,,2', "'1,,2'"),
        ('balance', "'balance'"),
    ],
)
def test_labels_that_do_not_fit(given, name, model):
    with pytest.raises(InputError, match=name):
        choose_labels(model, range(3), given)


def test_an_unconditional_model_takes_no_labels(unconditional):
    assert choose_labels(unconditional, range(3)) is None
    assert choose_labels(unconditional, range(3), 'random') is None
    for labels in 0, 'balanced':
        with pytest.raises(InputError, match='unconditional'):
            choose_labels(unconditional, range(3), labels)


def test_drawn_labels_depend_on_seed_and_index_alone(model):
    whole = choose_labels(model, range(1000), seed=4)
    assert torch.equal(choose_labels(model, [7, 3, 999], seed=4), whole[[7, 3, 999]])
    assert torch.equal(choose_labels(model, np.arange(1000), 'random', seed=4), whole)
    assert not torch.equal(choose_labels(model, range(1000), seed=5), whole)
    # Uniform: each class within five standard errors of its share.
    shares = whole.bincount(minlength=10) / 1000
    assert (shares - 0.1).abs().max() < 5 * (0.1 * 0.9 / 1000) ** 0.5


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('7', [7] * 12),
        ('1,5,9', [1, 5, 9] * 4),
        ('3, 1', [3, 1] * 6),
        ('0-3', [0, 1, 2, 3] * 3),
        ('4-4', [4] * 12),
        ('8-9,0', [8, 9, 0] * 4),
        ('balanced', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]),
    ],
)
def test_labels_as_text(text, expected, model):
    assert choose_labels(model, range(12), text).tolist() == expected
    # The label of an image does not depend on which other images are asked for.
    assert choose_labels(model, [11, 2], text).tolist() == [expected[11], expected[2]]


def test_no_class_as_text(build_model):
    model = build_model(dict(null_class=True))
    assert choose_labels(model, range(4), '-1').tolist() == [-1] * 4
    assert choose_labels(model, range(4), '2,-1').tolist() == [2, -1, 2, -1]
    assert choose_labels(model, range(11), 'balanced').tolist() == [*range(10), 0]


# --- images ---


@pytest.mark.parametrize('batch_size', [1, 3, 7, 100])
@pytest.mark.parametrize('indices', [range(7), [5, 0, 6], range(1, 7, 2)], ids=str)
def test_an_image_does_not_depend_on_its_batch(batch_size, indices, model):
    """Nor on the process that draws it: each takes indices of its own."""
    labels = choose_labels(model, range(7), seed=3)
    whole, part = StartSpy(), StartSpy()
    expected = sample_images(model, range(7), labels, whole, 3, 7)[list(indices)].astype(int)
    of_part = labels[list(indices)]
    found = sample_images(model, indices, of_part, part, 3, batch_size).astype(int)
    # The noise to the last bit; the network rounds otherwise in another batch.
    for kind in ('starts', 'later'):
        drawn = torch.cat(getattr(whole, kind))[list(indices)]
        assert torch.equal(torch.cat(getattr(part, kind)), drawn)
    assert abs(found - expected).max() <= 1


def test_draw_images(model):
    labels = choose_labels(model, range(5))
    found = sample_images(model, range(5), labels, batch_size=2)
    assert found.dtype == np.uint8
    assert found.shape == (5, 8, 8, 1)
    assert found.flags['C_CONTIGUOUS']
    batches = torch.cat(list(iter_samples(model, range(5), labels, batch_size=2)))
    assert np.array_equal(found, batches.permute(0, 2, 3, 1))
    model.sampler = HeunSampler(num_steps=3)
    own = sample_images(model, range(2), labels[:2])
    assert np.array_equal(own, sample_images(model, range(2), labels[:2], HeunSampler(num_steps=3)))


def test_one_noise_stream_for_the_batch(unconditional):
    spy = StartSpy()
    sample_images(unconditional, range(3), sampler=spy, seed=1, noise=BatchNoise)
    noise = BatchNoise(1, range(3))
    like = torch.empty(3, 1, 8, 8)
    assert torch.equal(spy.starts[0], noise(like) * 80.0)
    assert torch.equal(spy.later[0], noise(like))


def test_dropout_that_is_kept_comes_from_the_seed(build_model):
    model = build_model(dict(num_classes=None, dropout=0.5))
    heun = HeunSampler(num_steps=2)
    plain = sample_images(model, range(4), sampler=heun)
    state = torch.get_rng_state()
    kept, again, other = (
        sample_images(model, range(4), sampler=heun, seed=seed, dropout=True) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(kept, again)
    assert not np.array_equal(kept, plain)
    assert not np.array_equal(kept, other)
    assert not any(module.training for module in model.denoiser.modules())
    assert np.array_equal(sample_images(model, range(4), sampler=heun), plain)


def test_dropout_where_there_is_none(unconditional):
    with pytest.raises(InputError, match='dropout'):
        sample_images(unconditional, range(1), dropout=True)


@pytest.mark.parametrize('seed', [np.int64(3), 3.0, torch.tensor(3)])
def test_equal_seeds_of_other_types(seed, unconditional):
    expected = sample_images(unconditional, range(2), seed=3)
    assert np.array_equal(sample_images(unconditional, range(2), seed=seed), expected)


@pytest.mark.parametrize('wrong', [dict(seed=-1), dict(seed=1.5), dict(seed=None)])
def test_bad_settings(wrong, unconditional):
    with pytest.raises(InputError, match=f'seed.* {wrong["seed"]}'):
        list(iter_samples(unconditional, range(2), **wrong))
    with pytest.raises(InputError, match=f'seed.* {wrong["seed"]}'):
        choose_labels(unconditional, range(2), **wrong)
    with pytest.raises(InputError, match='batch_size'):
        list(iter_samples(unconditional, range(2), batch_size=0))


@pytest.mark.parametrize(
    ('batch_size', 'shown', 'hidden'),
    [(2, ['sampling', '3/3'], ['heun']), (3, ['heun', '/4'], ['sampling'])],
)
def test_progress_shows_one_bar(batch_size, shown, hidden, unconditional, capfd):
    """Over the images, or over the steps of the only batch."""
    for progress in (False, True):
        settings = dict(sampler=HeunSampler(num_steps=4), batch_size=batch_size)
        list(iter_samples(unconditional, range(3), **settings, progress=progress))
        text = capfd.readouterr().err
        assert all((word in text) == progress for word in shown)
        assert not any(word in text for word in hidden)


def test_what_is_no_number_is_not_drawn(model):
    next(model.denoiser.parameters()).data.fill_(float('nan'))
    with pytest.raises(InputError, match='NaN'):
        sample_images(model, range(3), choose_labels(model, range(3)))
