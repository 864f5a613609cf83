"""Walks between two pictures, on a Gaussian whose ODE is known."""

import pytest
import torch

from mmagic_cm.editing import encode, interpolate, slerp
from mmagic_cm.errors import InputError


@pytest.fixture
def consistency(gaussian):
    return lambda x, sigma: gaussian.flow(x, sigma, 0.0)


def pair():
    generator = torch.Generator().manual_seed(0)
    return [0.3 + 0.08 * torch.randn(3, 1, 8, 8, generator=generator) for _ in range(2)]


def test_slerp_keeps_the_norm_and_ends():
    a, b = torch.randn(2, 4, 1, 16, 16)
    norms = [slerp(a, b, share).flatten(1).norm(dim=1) for share in (0.0, 0.25, 0.5, 1.0)]
    torch.testing.assert_close(norms[0], a.flatten(1).norm(dim=1))
    torch.testing.assert_close(norms[3], b.flatten(1).norm(dim=1))
    assert all(((n / 16 - 1).abs() < 0.15).all() for n in norms)
    assert slerp(a, b, 0.5).std() == pytest.approx(1, abs=0.1)  # a straight line: 0.71
    torch.testing.assert_close(slerp(a, a, 0.3), a)


@pytest.mark.parametrize('sigma', [2.0, 80.0])
def test_encode_runs_the_ode_upwards(sigma, gaussian):
    image = pair()[0].double()
    exact = gaussian.flow(image, 0.002, sigma)
    found = encode(gaussian.denoise, image, sigma)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=5e-3)


def test_a_teachers_walk_ends_in_the_pictures(gaussian, consistency):
    first, second = pair()
    found = interpolate(consistency, first, second, 5, teacher=gaussian.denoise)
    assert found.shape == (5, 3, 1, 8, 8)
    torch.testing.assert_close(found[0], first, rtol=0, atol=0.01)
    torch.testing.assert_close(found[-1], second, rtol=0, atol=0.01)
    assert found.std(dim=(1, 2, 3, 4)).min() > 0.05


def test_shared_noise_walks_straight(gaussian):
    """The posterior mean is linear: each step of the walk is the same."""
    first, second = pair()
    noise = torch.randn_like(first)
    found = interpolate(gaussian.denoise, first, second, 4, sigma=0.1, noise=noise)
    steps = found.diff(dim=0)
    torch.testing.assert_close(steps[0], steps[2], rtol=0, atol=1e-5)
    torch.testing.assert_close(steps.sum(0), (second - first) * 0.25 / 0.26, rtol=0, atol=1e-5)


def test_between_noises(consistency):
    first, second = torch.randn(2, 3, 1, 8, 8)
    found = interpolate(consistency, first, second, 3, sigma=10.0)
    expected = consistency(10 * first, torch.full((3,), 10.0)).clamp(-1, 1)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(second=torch.zeros(1, 1, 8, 8)), 'second'),
        (dict(first=torch.zeros(8, 8)), 'first'),
        (dict(num_images=1), 'num_images'),
        (dict(sigma=0.001), 'sigma_min'),
    ],
)
def test_bad_input(settings, name, consistency):
    first, second = pair()
    with pytest.raises(InputError, match=name):
        interpolate(consistency, **dict(first=first, second=second) | settings)
