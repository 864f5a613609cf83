"""Measurements: what is kept is exact, and the gamut step leaves it so."""

import pytest
import torch

from mmagic_cm.editing import Guide, Luminance, Mask, Operator, PatchMean, into_gamut
from mmagic_cm.errors import InputError
from mmagic_cm.io.images import to_uint8, to_unit_range


class MirrorMean(Operator):
    """An operator as a user writes it: the mean of a picture and its mirror image."""

    def measure(self, x):
        return (x + x.flip(-1)) / 2

    def replace(self, x, y):
        return x + y - self.measure(x)


MASK = torch.zeros(16, 16)
MASK[3:9, 2:14] = 1
OPERATORS = [Mask(MASK), Luminance(), PatchMean(4), PatchMean(16), MirrorMean(), Guide()]


def pictures(seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * (2 * torch.rand(4, 3, 16, 16, generator=generator) - 1)


@pytest.mark.parametrize('operator', OPERATORS[:-1], ids=lambda o: type(o).__name__)
def test_replace_is_the_orthogonal_projection(operator):
    x, y = pictures(1).double(), operator.measure(pictures(2).double())
    found = operator.replace(x, y)
    torch.testing.assert_close(operator.measure(found), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.replace(found, y), found, rtol=0, atol=1e-12)
    # The change is orthogonal to every difference of pictures that measure the same.
    other = operator.replace(pictures(3).double(), y)
    assert ((x - found) * (other - found)).sum().abs() < 1e-9


@pytest.mark.parametrize('operator', OPERATORS, ids=lambda o: type(o).__name__)
def test_the_gamut_step_keeps_the_measurement(operator):
    image = pictures(2, scale=0.95)
    raw = operator.replace(pictures(1, scale=1.8), operator.measure(image))
    found = into_gamut(operator, raw, image)
    assert found.abs().max() <= 1 + 1e-6
    if isinstance(operator, Guide):
        return
    kept = operator.measure(image)
    assert (operator.measure(found) - kept).abs().max() < 1e-6
    levels = to_unit_range(to_uint8(found))
    assert (operator.measure(levels) - kept).abs().max() < 1 / 127.5
    # Clipping instead, as the paper's code does, is off by many.
    clipped = operator.measure(raw.clamp(-1, 1))
    if not isinstance(operator, Mask):
        assert (clipped - kept).abs().max() > 5 / 127.5


def test_the_gamut_step_changes_no_more_than_it_must():
    operator, image = PatchMean(4), 0 * pictures()
    inside = operator.replace(pictures(1, scale=0.4), operator.measure(image))
    assert torch.equal(into_gamut(operator, inside, image), inside)
    outside = inside.clone()
    outside[0, 0, :4, :4] = operator.replace(3 * inside, operator.measure(image))[0, 0, :4, :4]
    outside[0, 0, 0, 0] += 2
    outside[0, 0, 0, 1] -= 2
    found = into_gamut(operator, outside, image)
    changed = (found != outside).nonzero()
    assert changed[:, 2:].max() < 4
    assert changed[:, :2].max() == 0
    assert found[0, 0, :4, :4].abs().max() == pytest.approx(1)


def test_white_and_black_are_no_obstacle():
    """No detail and no room: nothing to shrink, and nothing divided by nothing."""
    image = torch.ones(1, 3, 8, 8)
    image[..., 4:] = -1
    for operator in (Luminance(), PatchMean(4), Mask(torch.ones(8, 8))):
        found = into_gamut(operator, operator.replace(0 * image, operator.measure(image)), image)
        torch.testing.assert_close(found, image, rtol=0, atol=1e-6)


def test_grey_stays_grey():
    grey = pictures()[:, :1]
    torch.testing.assert_close(Luminance().measure(grey.expand(-1, 3, -1, -1)), grey)
    shown = Luminance().show(pictures())
    assert torch.equal(shown[:, 0], shown[:, 2])


@pytest.mark.parametrize(
    'shape', [(16, 16), (1, 16, 16), (4, 16, 16), (1, 1, 16, 16), (4, 1, 16, 16)]
)
def test_shapes_of_masks(shape):
    assert Mask(torch.ones(shape)).measure(pictures()).shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ('act', 'name'),
    [
        (lambda: Mask(torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])), 'zero'),
        (lambda: Mask(torch.full((4, 4), 0.5)), 'mask'),
        (lambda: Mask(torch.ones(2, 3, 4, 4)), r'\(2, 3, 4, 4\)'),
        (lambda: Mask(torch.ones(8, 16)).measure(pictures()), '1 x 8 x 16'),
        (lambda: Mask(torch.ones(3, 16, 16)).measure(pictures()), '3 x 16 x 16'),
        (lambda: PatchMean(3).measure(pictures()), 'factor 3'),
        (lambda: PatchMean(0), 'factor'),
        (lambda: Luminance().measure(pictures()[:, :1]), '1'),
    ],
)
def test_bad_input(act, name):
    with pytest.raises(InputError, match=name):
        act()
