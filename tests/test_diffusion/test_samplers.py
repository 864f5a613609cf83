"""Whole trajectories: the reference's numbers, a Gaussian in closed form, and the settings."""

import math
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from mmagic_cm.diffusion.samplers import (
    DiffusionSampler,
    DPM2Sampler,
    DPMSolverSampler,
    EulerAncestralSampler,
    EulerSampler,
    HeunSampler,
    MultistepSampler,
    OnestepSampler,
    sample_dpm2,
    sample_dpm_solver,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_multistep,
    sample_onestep,
    sample_progressive,
)
from mmagic_cm.diffusion.schedules import karras_sigmas
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DIFFUSION_SAMPLERS

# Every registered sampler with short settings, and what it costs.
SAMPLERS = {
    'OnestepSampler': ({}, 1),
    'MultistepSampler': (dict(ts=(0, 5, 8, 11), num_scales=12), 3),
    'HeunSampler': (dict(num_steps=12), 23),
    'EulerSampler': (dict(num_steps=12), 12),
    'DPM2Sampler': (dict(num_steps=12), 24),
    'DPMSolverSampler': (dict(num_steps=12), 12),
    'EulerAncestralSampler': (dict(num_steps=12), 12),
    'ProgressiveSampler': (dict(num_steps=12), 12),
}
SETTINGS = [(name, settings) for name, (settings, _) in SAMPLERS.items()]


def build(name, settings=None, **more):
    return DIFFUSION_SAMPLERS.build(dict(type=name, **(settings or {}), **more))


def stand_in(x, sigma):
    """The denoiser with which the reference numbers were recorded."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    return 0.9 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2).sqrt())


def replay(draws):
    """Noise that comes from a list."""
    draws = iter(draws)
    return lambda like: next(draws)


@pytest.mark.parametrize(
    ('row', 'name', 'settings'),
    [
        ('onestep', 'OnestepSampler', {}),
        ('multistep', 'MultistepSampler', dict(ts=(0, 5, 11), num_scales=12)),
        ('heun', 'HeunSampler', dict(num_steps=12)),
        ('heun_churn20', 'HeunSampler', dict(num_steps=12, s_churn=20)),
        ('dpm', 'DPM2Sampler', dict(num_steps=12)),
        ('dpm_churn20', 'DPM2Sampler', dict(num_steps=12, s_churn=20)),
        ('euler', 'EulerSampler', dict(num_steps=12)),
        ('ancestral', 'EulerAncestralSampler', dict(num_steps=12)),
        ('progdist', 'ProgressiveSampler', dict(num_steps=12)),
    ],
)
def test_rows_of_the_reference(row, name, settings, goldens):
    recorded = goldens('samplers')
    assert recorded['steps'] == 12
    assert recorded['ts'].tolist() == [0, 5, 11]
    noise = recorded['noise']
    found = build(name, settings)(stand_in, 80 * noise[0], replay(noise[1:]))
    torch.testing.assert_close(found, recorded[row], rtol=1e-4, atol=1e-5)


def test_every_registered_sampler_is_tested():
    DIFFUSION_SAMPLERS.get('OnestepSampler')  # fills the registry
    assert set(SAMPLERS) == set(DIFFUSION_SAMPLERS.module_dict)


def test_the_noise_range_is_the_denoisers():
    denoiser = SimpleNamespace(sigma_min=0.01, sigma_max=40.0, rho=5.0)
    grid = karras_sigmas(7, 0.01, 40.0, 5.0)
    own = HeunSampler(num_steps=7)
    assert torch.equal(own.within(denoiser).grid(), grid)
    assert torch.equal(own.grid(), karras_sigmas(7))
    multistep = MultistepSampler(ts=(0, 3, 6), num_scales=7)
    assert multistep.within(denoiser).sigmas == tuple(grid[[0, 3]].tolist())
    assert HeunSampler(num_steps=7, sigma_max=20.0).within(denoiser).sigma_max == 20
    # Steps divide by levels: those of a denoiser that goes down to 0 begin above it.
    assert own.within(SimpleNamespace(sigma_min=0.0)).grid()[-1] == pytest.approx(0.002)
    for wrong in (
        OnestepSampler(sigma_max=80.0),
        HeunSampler(sigma_min=0.002),
        MultistepSampler(sigmas=(80.0, 1.0)),
    ):
        with pytest.raises(InputError, match='denoiser'):
            wrong.within(denoiser)


def test_pictures_are_clipped_and_points_of_a_trajectory_are_not():
    class Flow(DiffusionSampler):
        sigma_max, num_evaluations = 1.0, 2

        def sample(self, denoise, x, noise, progress):
            x = denoise(x, torch.ones(1), next_sigma=torch.ones(1) / 2)
            seen.append(x)
            return denoise(x, torch.ones(1) / 2)

    seen = []
    found = Flow()(lambda x, sigma, **conditions: 3 * x, torch.ones(1, 1, 1, 1))
    assert seen[0].item() == 3
    assert found.item() == 1


@pytest.mark.parametrize('settings', [dict(s_noise=math.nan), dict(s_churn=-1.0)])
def test_noise_on_the_way_is_a_number(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        HeunSampler(**settings)


@pytest.mark.parametrize(('name', 'settings', 'cost'), [(n, *row) for n, row in SAMPLERS.items()])
@pytest.mark.parametrize('clip_denoised', [True, False])
def test_num_evaluations_and_range(name, settings, cost, clip_denoised):
    calls = []

    def denoise(x, sigma):
        assert sigma.shape == (len(x),)
        assert sigma.dtype == torch.float32
        calls.append(sigma[0].item())
        return torch.full_like(x, 3.0)

    sampler = build(name, settings, clip_denoised=clip_denoised)
    found = sampler(denoise, torch.randn(2, 1, 4, 4) * sampler.sigma_max)
    assert len(calls) == sampler.num_evaluations == cost
    assert calls[0] == sampler.sigma_max == 80
    assert calls == sorted(calls, reverse=True)
    # A network that says 3 everywhere is clamped, or believed (up to the noise at sigma_min).
    expected = 1 if clip_denoised else 3
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=0, atol=0.02)
    assert not clip_denoised or found.max() <= 1


@pytest.mark.parametrize(
    ('sample', 'end', 'order'),
    [
        (sample_euler, 0.0, 1),
        (sample_heun, 0.0, 2),
        (sample_dpm2, 0.0, 2),
        (partial(sample_dpm2, midpoint='geometric'), 0.0, 2),
        (partial(sample_dpm_solver, order=1), 0.0, 1),
        (partial(sample_dpm_solver, order=2), 0.0, 2),
        (sample_progressive, 0.002, 1),
    ],
)
def test_order_of_convergence_on_a_gaussian(sample, end, order, gaussian):
    x = 80 * torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(8, 1, 1, 1)
    exact = gaussian.flow(x, 80.0, end)
    errors = [
        (sample(gaussian.denoise, x, karras_sigmas(n)) - exact).abs().max().item()
        for n in (40, 80, 160)
    ]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes == pytest.approx([order] * 2, abs=0.15)
    assert errors[-1] < 0.02


def test_churn_happens_between_s_tmin_and_s_tmax(gaussian):
    x, sigmas = 80 * torch.randn(2, 1, 4, 4), karras_sigmas(10)
    plain = sample_heun(gaussian.denoise, x, sigmas)
    outside = dict(s_churn=5.0, s_tmin=90.0, noise=replay([]))  # no draw may be asked for
    assert torch.equal(sample_heun(gaussian.denoise, x, sigmas, **outside), plain)
    draws = []

    def noise(like):
        draws.append(like)
        return torch.zeros_like(like)

    inside = dict(s_churn=5.0, s_tmin=1.0, s_tmax=50.0)
    sample_heun(gaussian.denoise, x, sigmas, noise=noise, **inside)
    assert len(draws) == sum(1.0 <= s <= 50.0 for s in sigmas.tolist())


@pytest.mark.parametrize('sample', [sample_heun, sample_dpm2])
@pytest.mark.parametrize(('s_noise', 's_churn'), [(1.0, 4.0), (1.5, 4.0), (1.0, 1000.0)])
def test_churn_adds_the_missing_variance(sample, s_noise, s_churn):
    """Of the image 0 the pure noise shows: raised by sigma^2 ((1 + gamma)^2 - 1) s_noise^2."""
    gamma = min(s_churn / 8, math.sqrt(2) - 1)
    seen = []

    def denoise(x, sigma):
        seen.append((x.mean().item(), sigma[0].item()))
        return 0 * x

    settings = dict(s_churn=s_churn, s_noise=s_noise, noise=torch.ones_like)
    sample(denoise, torch.zeros(1, 1, 2, 2), karras_sigmas(8), **settings)
    added = s_noise * 80 * math.sqrt((1 + gamma) ** 2 - 1)
    assert seen[0] == pytest.approx((added, 80 * (1 + gamma)), rel=1e-5)


def test_ancestral_keeps_the_variance_of_a_level():
    """Of the image 0 every x is the noise alone: standard deviation sigma at each level."""
    generator = torch.Generator().manual_seed(0)
    n = 40_000
    seen = []

    def denoise(x, sigma):
        seen.append(x.std().item() / sigma[0].item())
        return 0 * x

    def noise(like):
        return torch.randn(like.shape, generator=generator)

    x = 80 * noise(torch.empty(n, 1, 1, 1))
    sample_euler_ancestral(denoise, x, karras_sigmas(10), noise=noise)
    assert seen == pytest.approx([1] * 10, abs=5 / math.sqrt(2 * n))


def test_ancestral_splits_a_level_into_step_and_noise():
    sigmas = [4.0, 3.0]
    seen = []

    def denoise(x, sigma):
        seen.append(x.mean().item())
        return 0 * x

    for start, draw in ((4.0, 0.0), (0.0, 1.0)):
        x = torch.full((1, 1, 2, 2), start)
        noise = torch.zeros_like if draw == 0 else torch.ones_like
        sample_euler_ancestral(denoise, x, sigmas, noise=noise)
    # Down to s'^2 / s, then up by s' sqrt(s^2 - s'^2) / s.
    assert seen == pytest.approx([4.0, 9 / 4, 0.0, 3 * math.sqrt(7) / 4])


@pytest.mark.parametrize('sigma_min', [0.002, 0.5])
def test_multistep_noise(sigma_min):
    """The denoised images count as being at sigma_min: the noise makes up the difference."""
    seen = []

    def denoise(x, sigma):
        seen.append((x.mean().item(), sigma[0].item()))
        return torch.zeros_like(x)

    x = torch.full((1, 1, 2, 2), 80.0)
    sample_multistep(denoise, x, (80.0, 2.0, 0.7), noise=torch.ones_like, sigma_min=sigma_min)
    above = [math.sqrt(sigma**2 - sigma_min**2) for sigma in (2.0, 0.7)]
    expected = [(80.0, 80.0), (above[0], 2.0), (above[1], 0.7)]
    assert [pytest.approx(e, rel=1e-6) for e in expected] == seen


def test_multistep_keeps_the_marginal_of_a_gaussian(gaussian):
    """With the exact consistency function, every step ends in the data at sigma_min."""
    low, n = 0.3, 60_000
    generator = torch.Generator().manual_seed(0)
    seen = []

    def noise(like):
        return torch.randn(like.shape, generator=generator)

    def consistency(x, sigma):
        seen.append(x.var().item() / (gaussian.variance + sigma[0].item() ** 2))
        return gaussian.flow(x, sigma, low)

    x = gaussian.mean + math.sqrt(gaussian.variance + 4) * noise(torch.empty(n, 1, 1, 1))
    found = sample_multistep(consistency, x, (2.0, 1.0, 0.5), noise=noise, sigma_min=low)
    # Five standard errors; without the minus under the root 0.09 too much would stand out.
    error = 5 * math.sqrt(2 / n)
    assert seen == pytest.approx([1] * 3, abs=error)
    assert found.var().item() == pytest.approx(gaussian.variance + low**2, rel=error)
    assert found.mean().item() == pytest.approx(gaussian.mean, abs=0.02)


def test_levels_as_indices_or_as_numbers():
    by_index = MultistepSampler(ts=(0, 22, 39), num_scales=40)
    assert by_index.sigmas == pytest.approx((80.0, 1.38237), rel=1e-5)
    assert by_index.num_evaluations == 2
    by_level = MultistepSampler(sigmas=by_index.sigmas)
    x, draws = 80 * torch.randn(2, 1, 4, 4), [torch.randn(2, 1, 4, 4)]
    found = [sampler(stand_in, x, replay(draws)) for sampler in (by_index, by_level)]
    assert torch.equal(*found)


def test_multistep_may_start_below_the_top():
    sampler = MultistepSampler(ts=(5, 22, 39), num_scales=40)
    assert sampler.sigma_max == karras_sigmas(40)[5].item()


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        (dict(ts=(0, 10, 25)), 'noise.* 39'),
        (dict(ts=(0, 22, 40)), 'rise'),
        (dict(ts=(0, 0, 39)), 'rise'),
        (dict(ts=(-1, 39)), 'rise'),
        (dict(ts=(39,)), 'rise'),
        (dict(ts='0,22,39'), 'ts'),
        (dict(ts=(0, 22.0, 39)), 'ts'),
        (dict(ts=39), 'ts'),
        ({}, 'ts or sigmas'),
        (dict(ts=(0, 39), sigmas=(80.0,)), 'ts or sigmas'),
        (dict(sigmas=()), 'descend'),
        (dict(sigmas=(1.0, 80.0)), 'descend'),
        (dict(sigmas=(80.0, 0.001)), '0.002'),
        (dict(sigmas=(80.0, math.nan)), 'finite'),
        (dict(sigmas=80.0), 'sigmas'),
        (dict(sigmas='80,1.38'), 'sigmas'),
    ],
)
def test_multistep_refuses(settings, match):
    with pytest.raises(InputError, match=match):
        MultistepSampler(**settings)


@pytest.mark.parametrize('name', [name for name in SAMPLERS if 'num_steps' in SAMPLERS[name][0]])
def test_no_steps_or_one_from_zero(name):
    with pytest.raises(InputError, match='num_steps'):
        build(name, num_steps=0)
    with pytest.raises(InputError, match='sigmas'):
        build(name, sigma_min=0.0)  # steps divide by the level


def test_the_midpoint_of_k_diffusion():
    """Its levels: sigma, the geometric mean, ..., and Euler's step at the end."""
    seen = []

    def denoise(x, sigma):
        seen.append(sigma[0].item())
        return 0 * x

    sampler = DPM2Sampler(num_steps=2, sigma_min=0.5, sigma_max=8.0, midpoint='geometric')
    sampler(denoise, torch.ones(1, 1, 2, 2))
    assert seen == pytest.approx([8.0, 2.0, 0.5])
    assert sampler.num_evaluations == len(seen)
    with pytest.raises(InputError, match="Did you mean 'geometric'"):
        DPM2Sampler(midpoint='geometry')


def test_dpm_solver_ends_with_a_denoised_image(gaussian):
    x, seen = 80 * torch.randn(2, 1, 4, 4), []

    def denoise(x, sigma):
        seen.append((sigma[0].item(), gaussian.denoise(x, sigma)))
        return seen[-1][1]

    found = sample_dpm_solver(denoise, x, karras_sigmas(12))
    assert [sigma for sigma, _ in seen] == karras_sigmas(12).tolist()
    assert torch.equal(found, seen[-1][1])


@pytest.mark.parametrize('settings', [dict(order=4), dict(quadratic='third')])
def test_dpm_solver_refuses(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        DPMSolverSampler(**settings)


@pytest.mark.parametrize(('name', 'settings'), SETTINGS)
@pytest.mark.parametrize('sigma_max', [math.nan, math.inf, -80.0])
def test_no_start(name, settings, sigma_max):
    with pytest.raises(InputError, match='finite'):
        build(name, settings, sigma_max=sigma_max)


@pytest.mark.parametrize(
    ('sampler', 'function', 'sigmas'),
    [
        (OnestepSampler(), sample_onestep, [80.0]),
        (MultistepSampler(sigmas=(80.0, 2.0)), sample_multistep, [80.0, 2.0]),
        (HeunSampler(num_steps=7, rho=3.0), sample_heun, karras_sigmas(7, rho=3.0)),
        (EulerSampler(num_steps=7, sigma_max=10.0), sample_euler, karras_sigmas(7, 0.002, 10.0)),
        (
            DPMSolverSampler(num_steps=7, order=2),
            partial(sample_dpm_solver, order=2),
            karras_sigmas(7),
        ),
        (EulerAncestralSampler(num_steps=7), sample_euler_ancestral, karras_sigmas(7)),
    ],
)
def test_classes_hold_the_settings_of_the_functions(sampler, function, sigmas):
    generator = torch.Generator().manual_seed(0)
    x, *draws = torch.randn(10, 2, 1, 4, 4, generator=generator).unbind()
    x = x * sampler.sigma_max
    sampler.clip_denoised = False
    found = sampler(stand_in, x, replay(draws))
    assert torch.equal(found, function(stand_in, x, sigmas, noise=replay(draws)))


@pytest.mark.parametrize(('name', 'settings'), SETTINGS)
def test_default_noise_is_the_global_generator(name, settings):
    x = 80 * torch.randn(2, 1, 4, 4)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(build(name, settings)(stand_in, x))
    assert torch.equal(*found)


def test_progress_shows_a_bar(capfd):
    x = torch.zeros(1, 1, 2, 2)
    EulerSampler(num_steps=3)(stand_in, x, progress=False)
    assert capfd.readouterr().err == ''
    MultistepSampler(ts=(0, 5, 11), num_scales=12)(stand_in, x, progress=True)
    assert 'multistep' in capfd.readouterr().err
