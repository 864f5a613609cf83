"""Pictures of any size and kind, through a model and back."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.editing import TASKS, edit_pictures
from mmagic_cm.editing.fitting import Fit
from mmagic_cm.errors import InputError

COLOR = dict(in_channels=3, out_channels=3)
LUMA = np.array([0.2989, 0.587, 0.114]) / 0.9999


@pytest.fixture(scope='module')
def color(build_model):
    return build_model(network=COLOR)


def picture(height, width, channels=3, seed=0):
    """Smooth, with strong colours."""
    grid = np.random.default_rng(seed).integers(0, 256, (3, 3, channels), np.uint8)
    layers = [
        Image.fromarray(grid[..., c]).resize((width, height), Image.Resampling.BILINEAR)
        for c in range(channels)
    ]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)


def hole(height, width):
    mask = np.full((height, width), 255, np.uint8)
    mask[height // 3 : height // 2, width // 4 : width // 2] = 0
    return mask


SHORT = dict(num_steps=3, num_candidates=2, labels=3)
SIZES = [(8, 8), (4, 8), (13, 29), (40, 17), (1, 5)]


@pytest.mark.parametrize('size', SIZES[:-1])
def test_known_pixels_stay_at_any_size(size, color):
    image, mask = picture(*size), hole(*size)
    (found,) = edit_pictures(color, 'inpainting', [image], masks=[mask], **SHORT)
    assert found.candidates.shape == (2, *size, 3)
    assert np.array_equal(found.shown['input'], image)
    assert all(np.array_equal(c[mask > 0], image[mask > 0]) for c in found.candidates)
    assert (found.shown['degraded'][mask == 0] == 128).all()
    assert not np.array_equal(*found.candidates)
    # What the hole held is not seen.
    other = np.where(mask[..., None] > 0, image, 255 - image)
    (again,) = edit_pictures(color, 'inpainting', [other], masks=[mask], **SHORT)
    assert np.array_equal(again.candidates, found.candidates)


@pytest.mark.parametrize('size', SIZES)
def test_luminance_stays_within_a_grey_level(size, color):
    image = picture(*size)
    (found,) = edit_pictures(color, 'colorization', [image], **SHORT)
    assert np.abs(found.candidates @ LUMA - image @ LUMA).max() <= 1
    assert np.abs(found.shown['degraded'] @ LUMA - image @ LUMA).max() <= 1
    assert np.ptp(found.shown['degraded'].astype(int), axis=-1).max() == 0


def test_patch_means_stay_within_a_grey_level(color):
    image = picture(8, 8)
    (found,) = edit_pictures(color, 'super-resolution', [image], factor=4, **SHORT)
    for result in [*found.candidates, found.shown['degraded']]:
        means, known = (
            p.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3)) for p in (result.astype(float), image)
        )
        assert np.abs(means - known).max() <= 1


def test_a_small_picture_is_the_measurement(color):
    small = picture(2, 1)
    (found,) = edit_pictures(color, 'super-resolution', [small], factor=4, **SHORT)
    assert found.candidates.shape == (2, 8, 4, 3)
    means = found.candidates.reshape(2, 2, 4, 1, 4, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(means - small).max() <= 1
    (whole,) = edit_pictures(color, 'super-resolution', [picture(40, 17)], factor=4, **SHORT)
    assert whole.candidates.shape == (2, 40, 17, 3)


@pytest.mark.parametrize('task', ['stroke', 'denoising'])
@pytest.mark.parametrize('size', [(8, 8), (13, 29)])
def test_pictures_of_which_nothing_is_kept(task, size, color):
    (found,) = edit_pictures(color, task, [picture(*size)], num_candidates=2, labels=3)
    # Nothing is drawn in denoising, so there is one answer.
    assert found.candidates.shape == (1 if task == 'denoising' else 2, *size, 3)
    assert list(found.shown) == ['input']


@pytest.mark.parametrize('task', [task for task in TASKS if task != 'interpolation'])
def test_a_candidate_depends_on_seed_picture_and_number_alone(task, color):
    images = [picture(8, 8, seed=i) for i in range(3)]
    masks = [hole(8, 8)] if task == 'inpainting' else []
    settings = dict(masks=masks, labels=[1, 2, 3], num_steps=3, sigma=0.5)
    whole = edit_pictures(color, task, images, num_candidates=3, **settings)
    small = edit_pictures(color, task, images, num_candidates=2, batch_size=2, **settings)
    other = edit_pictures(color, task, images, num_candidates=2, seed=1, **settings)
    for a, b, c in zip(whole, small, other, strict=True):
        kept = a.candidates[: len(b.candidates)]
        assert np.abs(kept.astype(int) - b.candidates).max() <= 1
        assert task == 'denoising' or not np.array_equal(kept, c.candidates)


def test_gray_models_and_pictures(model):
    image = Image.fromarray(picture(8, 8))
    (found,) = edit_pictures(model, 'inpainting', [image], masks=[hole(8, 8)], **SHORT)
    assert found.candidates.shape == (2, 8, 8, 1)
    assert np.array_equal(found.shown['input'][..., 0], np.asarray(image.convert('L')))
    assert found.side_by_side().width > 4 * 60


def test_walks(color):
    images = [picture(8, 4, seed=0), picture(6, 6, seed=1)]
    (found,) = edit_pictures(color, 'interpolation', images, labels=[1, 2])
    assert found.candidates.shape == (8, 8, 4, 3)
    assert list(found.shown) == ['first', 'last']
    found.side_by_side()
    (found,) = edit_pictures(color, 'interpolation', labels=1, num_candidates=5)
    assert found.candidates.shape == (5, 8, 8, 3)
    (found,) = edit_pictures(
        color, 'interpolation', images, labels=1, teacher=color.denoiser, sigma=2.0
    )
    assert found.candidates.shape == (8, 8, 4, 3)
    (found,) = edit_pictures(color, 'interpolation')  # of one random class throughout
    assert found.candidates.shape == (8, 8, 8, 3)


def test_guidance_and_precision(build_model):
    model = build_model(network=dict(COLOR, null_class=True))
    images, settings = [picture(8, 8)], dict(num_steps=3, labels=3)
    plain = edit_pictures(model, 'colorization', images, **settings)[0].candidates
    model.guidance_scale = 1.0
    same = edit_pictures(model, 'colorization', images, **settings)[0].candidates
    assert np.abs(plain.astype(int) - same).max() <= 1
    model.guidance_scale = 4.0
    guided = edit_pictures(model, 'colorization', images, **settings)[0].candidates
    assert not np.array_equal(plain, guided)
    model.guidance_scale, model.precision = None, 'bf16'
    coarse = edit_pictures(model, 'colorization', images, **settings)[0].candidates
    assert np.abs(coarse @ LUMA - images[0] @ LUMA).max() <= 1


@pytest.mark.parametrize('size', SIZES)
def test_a_fit_there_and_back(size):
    fit = Fit(*size, 8)
    x = torch.linspace(-1, 1, size[0] * size[1]).reshape(1, *size)
    assert fit.into(x).shape == (1, 8, 8)
    assert fit.back(fit.into(x)).shape == x.shape
    constant = torch.full_like(x, 0.3)
    torch.testing.assert_close(fit.into(constant), torch.full((1, 8, 8), 0.3))
    if max(size) <= 8:
        torch.testing.assert_close(fit.back(fit.into(x)), x, rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ('task', 'settings', 'name'),
    [
        ('inpaint', {}, "'inpainting'"),
        ('colorization', dict(pictures=[]), 'colorization'),
        ('inpainting', {}, 'mask'),
        ('inpainting', dict(masks=[hole(8, 9)]), 'mask 0'),
        ('colorization', dict(masks=[hole(8, 8)]), 'mask'),
        ('colorization', dict(labels=10), 'Label 10'),
        ('colorization', dict(num_candidates=0), 'num_candidates'),
        ('colorization', dict(batch_size=0), 'batch_size'),
        ('colorization', dict(seed=-1), 'seed'),
        ('colorization', dict(num_steps=0), '0'),
        ('colorization', dict(pictures=[np.zeros((8, 8, 4), np.uint8)]), 'picture 0'),
        ('colorization', dict(pictures=['a.png']), 'picture 0'),
        ('interpolation', {}, 'interpolation'),
    ],
)
def test_bad_input(task, settings, name, color):
    settings = dict(pictures=[picture(8, 8)]) | settings
    with pytest.raises(InputError, match=name):
        edit_pictures(color, task, **settings)
