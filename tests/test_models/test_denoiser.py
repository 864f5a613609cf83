"""The denoiser: preconditioning, boundary conditions, the reference's numbers."""

import json
import math

import pytest
import torch

from mmagic_cm.diffusion.schedules import karras_sigmas
from mmagic_cm.errors import InputError
from mmagic_cm.models import EDMParameterization, KarrasDenoiser
from mmagic_cm.networks import ADMUNet

BOTH = ['consistency', 'edm']
SIGMAS = torch.tensor([0.002, 0.01, 0.5, 1.3, 80.0])


@pytest.fixture
def x():
    return torch.randn(len(SIGMAS), 1, 8, 8)


def tiny(**settings):
    return ADMUNet(8, 32, 1, 1, 1, attention_resolutions=(), channel_mult=(1,), **settings)


@pytest.mark.parametrize('name', ['unet_tiny_cond', 'unet_tiny_uncond', 'unet_tiny_plain'])
@pytest.mark.parametrize('parameterization', BOTH)
def test_rows_of_the_reference(name, parameterization, goldens, fill):
    recorded = goldens(name)
    config = json.loads(str(recorded['config']))
    config['attention_resolutions'] = [
        config['image_size'] // factor for factor in config['attention_resolutions']
    ]
    network = dict(type='ADMUNet', **config)
    denoiser = KarrasDenoiser(network, parameterization)
    fill(denoiser.network, int(recorded['seed']))
    with torch.no_grad():
        found = denoiser(recorded['x_t'], recorded['sigmas'], recorded.get('labels'))
    expected = recorded[f'denoised_{parameterization}']
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('parameterization', 'level'), [('consistency', 0.002), ('edm', 0.0), ('consistency', 0.05)]
)
def test_boundary_condition_to_the_last_bit(parameterization, level, fill, x):
    settings = dict(sigma_min=level) if level else {}
    denoiser = KarrasDenoiser(fill(tiny()), parameterization, **settings)
    # The level as samplers and objectives hand it over: the end of the grid.
    sigma = karras_sigmas(18, sigma_min=level)[-1] if level else torch.tensor(0.0)
    assert torch.equal(denoiser(x, sigma.expand(len(x))), x)
    assert not torch.equal(denoiser(x, 2 * sigma.expand(len(x)) + 1e-3), x)


def test_a_fresh_edm_network_is_the_exact_denoiser_of_a_gaussian(gaussian, x):
    """Of N(0, sigma_data^2 I): E[x0 | x] = sigma_data^2 / (sigma_data^2 + sigma^2) x."""
    exact = type(gaussian)(mean=0.0, variance=0.3**2).denoise(x, SIGMAS)
    denoiser = KarrasDenoiser(tiny(), 'edm', sigma_data=0.3)
    torch.testing.assert_close(denoiser(x, SIGMAS), exact)


@pytest.mark.parametrize('parameterization', BOTH)
@pytest.mark.parametrize('sigma_data', [0.5, 0.3])
def test_scalings_by_their_formulas(parameterization, sigma_data):
    scalings = KarrasDenoiser(tiny(), parameterization, sigma_data=sigma_data).parameterization
    shift = 0.002 if parameterization == 'consistency' else 0.0
    for i, s in enumerate(SIGMAS.tolist()):
        root = math.sqrt(s**2 + sigma_data**2)  # of sigma itself, also where c_skip is shifted
        expected = dict(
            c_skip=sigma_data**2 / ((s - shift) ** 2 + sigma_data**2),
            c_out=(s - shift) * sigma_data / root,
            c_in=1 / root,
        )
        found = {name: getattr(scalings, name)(SIGMAS)[i].item() for name in expected}
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-9)


@pytest.mark.parametrize(
    ('name', 'ends'),
    [
        ('adm', [1095.5067, -1553.652]),
        ('edm', [math.log(80) / 4, math.log(0.002) / 4]),
        ('trigflow', [math.atan(160), math.atan(0.004)]),
    ],
)
def test_how_networks_are_told_the_level(name, ends):
    def network(x, c_noise):
        told.append(c_noise)
        return x

    told = []
    x, levels = torch.zeros(2, 1, 2, 2), torch.tensor([80.0, 0.002])
    KarrasDenoiser(network, c_noise=name)(x, levels)
    network.c_noise = name  # as the network says it itself
    KarrasDenoiser(network)(x, levels)
    for found in told:
        assert found.tolist() == pytest.approx(ends, rel=1e-6)
    with pytest.raises(InputError, match='trigflow'):
        KarrasDenoiser(network, c_noise='trigflo')


def test_conditions_reach_the_network_by_name(x):
    def network(scaled, c_noise, labels=None, next_sigma=None, guidance=None):
        return scaled * 0 + (next_sigma + 10 * guidance).reshape(-1, 1, 1, 1)

    denoiser = KarrasDenoiser(network, 'edm')
    conditions = dict(next_sigma=SIGMAS / 2, guidance=SIGMAS)
    expected = denoiser.parameterization.c_out(SIGMAS) * 10.5 * SIGMAS
    found = denoiser(0 * x, SIGMAS, torch.arange(len(x)), **conditions)
    torch.testing.assert_close(found, expected.reshape(-1, 1, 1, 1).expand_as(x))


def test_the_network_is_any_callable(x):
    seen = []

    def network(scaled, timesteps, labels=None):
        seen.append((scaled, timesteps, labels))
        return torch.ones_like(scaled)

    denoiser = KarrasDenoiser(network, 'edm')
    labels = torch.arange(len(x))
    found = denoiser(x, SIGMAS, labels)
    scalings = denoiser.parameterization
    (scaled, timesteps, given), sigma = seen[0], SIGMAS.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(scaled, x * scalings.c_in(sigma))
    assert torch.equal(timesteps, 250 * SIGMAS.log())
    assert given is labels
    torch.testing.assert_close(found, x * scalings.c_skip(sigma) + scalings.c_out(sigma))
    KarrasDenoiser(lambda scaled, timesteps: scaled)(x, SIGMAS)  # unconditional: no third argument


def test_a_parameterization_may_be_an_object(x):
    class Identity(EDMParameterization):
        def c_out(self, sigma):
            return torch.zeros_like(sigma)

        def c_skip(self, sigma):
            return torch.ones_like(sigma)

    assert torch.equal(KarrasDenoiser(tiny(), Identity())(x, SIGMAS), x)
    by_config = KarrasDenoiser(tiny(), dict(type='edm', sigma_data=1.0))
    assert by_config.parameterization.sigma_data == 1.0


def test_float32_under_autocast(fill, x):
    denoiser = KarrasDenoiser(fill(tiny()))
    seen = []
    denoiser.network.register_forward_hook(lambda m, args, out: seen.append((*args, out)))
    exact = denoiser(x, SIGMAS)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = denoiser(x, SIGMAS)
        # Inputs in bfloat16 are taken up to float32 before anything is computed of them.
        assert denoiser(x.bfloat16(), SIGMAS).dtype == torch.float32
    scaled, timesteps, output = seen[1]
    assert scaled.dtype == timesteps.dtype == found.dtype == torch.float32
    assert output.dtype == torch.bfloat16  # the network did compute in it
    assert not torch.equal(found, exact)
    # The eight bits of a bfloat16 leave a share of 2^-8 of each rounding.
    assert (found - exact).norm() / exact.norm() < 2**-6
    # The boundary is exact in any precision.
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(denoiser(x, torch.full((len(x),), 0.002)), x)


@pytest.mark.parametrize(
    'settings',
    [
        dict(sigma_data=0.0),
        dict(sigma_data=math.nan),
        dict(sigma_min=-0.002),
        dict(sigma_min=80.0),
        dict(sigma_max=math.inf),
        dict(rho=math.nan),
    ],
)
def test_levels_and_spreads_that_make_no_sense(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        KarrasDenoiser(tiny(), **settings)
