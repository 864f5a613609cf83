"""What is drawn: the package's own samples, counted, timed and stopped."""

import numpy as np
import pytest
import torch

from mmagic_cm.apis import generate
from mmagic_cm.diffusion.samplers import HeunSampler, OnestepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.sampling.choice import sampler_names
from mmagic_cm.web.sampling import OWN, make_sampler, name_of, parse_levels, sample, table


@pytest.mark.parametrize('kind', [OWN, *sampler_names()])
def test_every_sampler_counts_its_evaluations(model, kind):
    sampler = make_sampler(model, kind, num_steps=3)
    drawn = sample(model, 5, '3', sampler, batch_size=2)
    assert drawn.evaluations == sampler.num_evaluations
    assert drawn.is_whole
    assert drawn.seconds > 0
    assert np.array_equal(drawn.images, generate(model, 5, 3, sampler)[0])
    assert drawn.labels.tolist() == [3] * 5


def test_levels(model):
    model.denoiser.sigma_max = 10.0
    two = make_sampler(model, 'multistep', num_levels=2)
    middle = ((10.0 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert two.sigmas == pytest.approx((10.0, middle), rel=1e-5)
    assert make_sampler(model, 'multistep', levels='8, 1.3').sigmas == (8.0, 1.3)
    assert make_sampler(model, 'heun', num_steps=4, churn=5).s_churn == 5
    assert make_sampler(model, 'onestep').sigma_max == 10.0
    for wrong in (dict(kind='magic'), dict(kind='multistep', levels='8 1')):
        with pytest.raises(InputError):
            make_sampler(model, **wrong)
    assert parse_levels('80, 1.3') == [80.0, 1.3]


def test_two_samplers_start_from_the_same_noise(model):
    starts = []

    def spy(module, args, kwargs):
        starts.append(args[0].clone())

    with torch.inference_mode():
        hook = model.denoiser.register_forward_pre_hook(spy, with_kwargs=True)
        for kind in ('onestep', 'heun'):
            sample(model, 2, '1', make_sampler(model, kind, num_steps=2))
        hook.remove()
    assert torch.equal(starts[0], starts[1])


def test_stopped_between_two_evaluations(model):
    asked = []

    def is_stopped():
        asked.append(True)
        return len(asked) > 4  # in the second batch of three evaluations

    drawn = sample(model, 6, None, HeunSampler(num_steps=2), batch_size=2, is_stopped=is_stopped)
    assert not drawn.is_whole
    assert np.array_equal(drawn.images, generate(model, 2, drawn.labels, HeunSampler(2))[0])
    assert 'stopped after 2 images' in table([drawn], torch.device('cpu'))
    assert not model.denoiser._forward_pre_hooks
    assert sample(model, 1, None, OnestepSampler(), is_stopped=lambda: True).images.shape[0] == 0


def test_noise_and_dropout(build_model):
    model = build_model(network=dict(dropout=0.5))
    one = OnestepSampler()
    plain = sample(model, 4, '3', one).images
    batch = sample(model, 4, '3', one, noise='one stream for the batch').images
    masked = sample(model, 4, '3', one, dropout=True).images
    assert not np.array_equal(plain, batch)
    assert not np.array_equal(plain, masked)
    assert np.array_equal(masked, sample(model, 4, '3', one, dropout=True).images)
    with pytest.raises(InputError, match='dropout'):
        sample(build_model(), 1, None, one, dropout=True)


def test_names(model):
    assert name_of(HeunSampler(num_steps=7)) == 'heun, 7 steps'
    sampler = make_sampler(model, 'multistep', levels='80, 1.3')
    assert name_of(sampler) == 'multistep at 80, 1.3'
