"""Distances: one number a sample."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmagic_cm.diffusion.distances import PseudoHuber, l2
from mmagic_cm.registry import DISTANCES, resolve

NAMES = ['l1', 'l2', 'l2-32', 'pseudo-huber']


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 2, 16, 16, generator=generator)


def test_by_hand():
    a, b = torch.tensor([[1.0, -2.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 4.0]])
    assert resolve(DISTANCES, 'l1')(a, b).tolist() == [2.0, 2.0]  # means, not sums
    assert resolve(DISTANCES, 'l2')(a, b).tolist() == [5.0, 8.0]
    # The pseudo-Huber norm is a sum: |a - b|^2 = 10 and 16.
    expected = [math.sqrt(10 + 9) - 3, math.sqrt(16 + 9) - 3]
    assert PseudoHuber(c=3.0)(a, b).tolist() == pytest.approx(expected)


def test_pseudo_huber_c_grows_with_the_image(pair):
    a, b = pair
    c = 0.00054 * math.sqrt(2 * 16 * 16)  # iCT's choice
    assert torch.equal(resolve(DISTANCES, 'pseudo-huber')(a, b), PseudoHuber(c)(a, b))
    assert torch.equal(
        resolve(DISTANCES, dict(type='pseudo-huber', c=0.0))(a, b), PseudoHuber(0.0)(a, b)
    )


@pytest.mark.parametrize(('scale', 'power'), [(1e-3, 2), (1e4, 1)])
def test_pseudo_huber_is_quadratic_near_and_linear_far(pair, scale, power):
    a = pair[0].double()
    near, far = (PseudoHuber(c=1.0)(a * s, 0 * a) for s in (scale, 2 * scale))
    torch.testing.assert_close(far / near, torch.full_like(near, 2.0**power), rtol=1e-3, atol=0)


def test_the_norm_has_a_gradient_where_images_agree(pair):
    """With c = 0: 0 there, as the least of all, and elsewhere that of the root."""
    a, b = pair.clone()
    a[0] = b[0]
    a.requires_grad_()
    distances = PseudoHuber(0)(a, b)
    norms = (a - b).detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(distances.detach(), norms)
    distances.sum().backward()
    assert (a.grad[0] == 0).all()
    torch.testing.assert_close(a.grad[1], (a - b)[1].detach() / norms[1])


def test_l2_32_resizes_both(pair):
    a, b = (F.interpolate(image, size=(32, 32), mode='bilinear') for image in pair)
    torch.testing.assert_close(resolve(DISTANCES, 'l2-32')(*pair), l2(a, b))


@pytest.mark.parametrize('name', NAMES)
def test_one_number_a_sample(name, pair):
    distance = resolve(DISTANCES, name)
    found = distance(*pair)
    assert found.shape == (3,)
    assert (found > 0).all()
    assert distance(pair[0], pair[0]).abs().max() < 1e-7
    torch.testing.assert_close(found, distance(pair[1], pair[0]))
    alone = torch.cat([distance(a[None], b[None]) for a, b in pair.unbind(1)])
    torch.testing.assert_close(found, alone)
