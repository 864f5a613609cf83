"""Samplers by name, by the indices of the paper's code, by the timesteps of diffusers."""

import pytest
import torch

from mmagic_cm.diffusion.samplers import MultistepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DIFFUSION_SAMPLERS, resolve
from mmagic_cm.sampling.choice import choose_sampler, sampler_type, ts_of_timesteps

OWN = dict(type='MultistepSampler', ts=(0, 106, 200), num_scales=201, rho=7.5)
PLAIN = dict(type='OnestepSampler')


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('heun', 'HeunSampler'),
        ('HeunSampler', 'HeunSampler'),
        ('Euler_Ancestral', 'EulerAncestralSampler'),
        ('dpm2', 'DPM2Sampler'),
        ('dpm_solver', 'DPMSolverSampler'),
        ('multistep', 'MultistepSampler'),
    ],
)
def test_short_names_of_samplers(name, expected):
    assert sampler_type(name) == expected


@pytest.mark.parametrize(
    ('own', 'said', 'expected'),
    [
        (OWN, {}, None),
        (PLAIN, dict(sampler='heun'), dict(type='HeunSampler')),
        (PLAIN, dict(sampler='multistep', ts=(0, 9), num_scales=10), (80.0,)),
        (None, dict(sampler=dict(type='heun', num_steps=3)), dict(type='HeunSampler', num_steps=3)),
        (OWN, dict(sampler='multistep'), OWN),
        (OWN, dict(sampler='MultistepSampler'), OWN),
        (OWN, dict(ts=[0, 3, 200]), dict(OWN, ts=[0, 3, 200])),
        (OWN, dict(ts=(0, 22, 39), num_scales=40), dict(OWN, ts=(0, 22, 39), num_scales=40)),
        (OWN, dict(timesteps=(106, 0)), OWN),
        (OWN, dict(timesteps=[22, 0], num_scales=40), dict(OWN, ts=(0, 22, 39), num_scales=40)),
        (OWN, dict(sampler=dict(type='multistep', timesteps=[106, 0])), OWN),
        (OWN, dict(sampler=dict(type='multistep', sigmas=(80.0, 1.0))), (80.0, 1.0)),
        (
            dict(type='MultistepSampler', sigmas=(80.0, 1.3)),
            dict(ts=(0, 22, 39), num_scales=40),
            dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40),
        ),
        (
            dict(type='HeunSampler', num_steps=18, s_churn=3),
            dict(sampler=dict(type='heun', num_steps=9)),
            dict(type='HeunSampler', num_steps=9, s_churn=3),
        ),
    ],
)
def test_choose_sampler(own, said, expected):
    before = None if own is None else dict(own)
    found = choose_sampler(own, **said)
    assert own == before
    built = resolve(DIFFUSION_SAMPLERS, found)  # what comes out can be built
    if isinstance(expected, tuple):
        assert built.sigmas == expected
    else:
        assert found == expected


@pytest.mark.parametrize(
    ('own', 'said', 'name'),
    [
        (PLAIN, dict(timesteps=(22, 0)), 'num_scales'),
        (None, dict(sampler=dict(type='multistep', ts=(0, 22, 39))), 'num_scales'),
        (dict(type='MultistepSampler', sigmas=(80, 1)), dict(timesteps=(22, 0)), 'num_scales'),
        (OWN, dict(ts=(0, 200), timesteps=(0,)), 'ts and timesteps'),
        (OWN, dict(sampler=dict(type='multistep', sigmas=(80, 1)), ts=(0, 200)), 'ts and sigmas'),
        (OWN, dict(num_scales=40), 'num_scales'),
        (OWN, dict(sampler='heun', ts=(0, 22, 200)), 'ts .* HeunSampler'),
        (OWN, dict(sampler='huen'), "'huen'.*'heun'"),
        (OWN, dict(timesteps=(0, 106)), '0,106'),
        (OWN, dict(timesteps=(106, 106, 0)), '106,106,0'),
        (OWN, dict(timesteps=()), 'timesteps'),
        (OWN, dict(timesteps=(1.5, 0)), '1.5,0'),
        (OWN, dict(timesteps=(201, 0)), '200 .* 201'),
    ],
)
def test_contradictions_about_a_sampler(own, said, name):
    with pytest.raises(InputError, match=name):
        choose_sampler(own, **said)


@pytest.mark.parametrize(
    ('timesteps', 'num_scales', 'ts'),
    [
        ((22, 0), 40, (0, 22, 39)),
        ([106, 0], 201, (0, 106, 200)),
        ((62, 0), 151, (0, 62, 150)),
        ((0,), 40, (0, 39)),
        ((30, 20, 10, 0), 40, (0, 10, 20, 30, 39)),
        ((39, 22, 0), 40, (0, 22, 39)),
    ],
)
def test_timesteps_mean_what_they_mean_to_diffusers(timesteps, num_scales, ts, model):
    schedulers = pytest.importorskip('diffusers.schedulers.scheduling_consistency_models')
    assert ts_of_timesteps(timesteps, num_scales) == ts
    scheduler = schedulers.CMStochasticIterativeScheduler(num_train_timesteps=num_scales)
    scheduler.set_timesteps(timesteps=list(timesteps))
    sampler = MultistepSampler(ts=ts, num_scales=num_scales)
    levels = [sigma for sigma in scheduler.sigmas.tolist() if sigma > 0.0021]
    assert levels == pytest.approx(list(sampler.sigmas), rel=1e-5)

    # Their loop around our network, from the same noise, ends in our picture.
    labels = torch.tensor([3, 8])
    start = torch.randn(2, 1, 8, 8)
    x, generator = start * scheduler.init_noise_sigma, torch.Generator().manual_seed(1)
    with torch.no_grad():
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t).float()
            output = model.denoiser.network(scaled, t.float().expand(2), labels)
            x = scheduler.step(output, t, x, generator=generator).prev_sample
        generator.manual_seed(1)
        ours = sampler(
            lambda x, sigma: model.denoiser(x, sigma, labels),
            start * sampler.sigma_max,
            lambda like: torch.randn(like.shape, generator=generator),
        )
    torch.testing.assert_close(x.float(), ours, rtol=0, atol=1e-4)
