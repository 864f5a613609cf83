"""Real digits, edited with the exact consistency function of the training digits."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.diffusion.noise import PerSampleNoise
from mmagic_cm.diffusion.schedules import karras_sigmas
from mmagic_cm.diffusion.solvers import heun_step, per_sample
from mmagic_cm.editing import denoise_image, estimate_noise_level, inpaint, super_resolve
from mmagic_cm.errors import InputError
from mmagic_cm.io.images import to_uint8, to_unit_range
from mmagic_cm.metrics import DigitsJudge


def tensors(split):
    images, labels = load_split(split)
    return to_unit_range(torch.from_numpy(images).permute(0, 3, 1, 2)), labels


class TrainingDigits:
    """The 1,400 training digits as a distribution."""

    def __init__(self):
        self.images = tensors('train')[0].flatten(1)

    def denoise(self, x, sigma):
        """The exact posterior mean: the training digits, weighted by how well they fit."""
        distances = torch.cdist(x.flatten(1), self.images).square()
        weights = (-distances / (2 * sigma[:, None] ** 2)).softmax(1)
        return (weights @ self.images).reshape(x.shape)

    def consistency(self, x, sigma):
        """Where three of Heun's steps of the ODE lead, near enough."""
        top = sigma[0].item()
        levels = karras_sigmas(4, 0.05, top).tolist() if top > 0.1 else [top]
        for level, next_level in pairwise(levels):
            x = heun_step(self.denoise, x, level, next_level)
        return self.denoise(x, per_sample(levels[-1], x))


@pytest.fixture(scope='module')
def training():
    return TrainingDigits()


def read(images, labels):
    pixels = to_uint8(images).permute(0, 2, 3, 1).numpy()
    return DigitsJudge().judge(pixels, labels).accuracy


@pytest.mark.slow
def test_inpainted_digits_are_read(training):
    """Of the 397 test digits the lower half is removed; left black, 27 % are read."""
    images, labels = tensors('test')
    mask = torch.ones(8, 8)
    mask[4:] = 0
    assert read(torch.where(mask.bool(), images, -1), labels) < 0.3
    found = inpaint(
        training.consistency,
        images,
        mask,
        sigmas=karras_sigmas(10, 0.3, 1.5),
        num_resamples=5,
        noise=PerSampleNoise(0, range(len(images))),
    )
    assert torch.equal(found[:, :, :4], images[:, :, :4])
    accuracy = read(found, labels)
    print(f'read: {accuracy:.3f}')
    assert accuracy >= 0.65


@pytest.mark.slow
def test_super_resolved_digits_are_read(training):
    images, labels = tensors('test')
    small = torch.nn.functional.avg_pool2d(images, 2)
    found = super_resolve(
        training.consistency,
        factor=2,
        low_res=small,
        sigmas=karras_sigmas(10, 0.3, 1.5),
        num_resamples=5,
        noise=PerSampleNoise(0, range(len(images))),
    )
    kept = torch.nn.functional.avg_pool2d(found, 2)
    torch.testing.assert_close(kept, small, rtol=0, atol=1e-6)
    before = read(torch.nn.functional.interpolate(small, scale_factor=2), labels)
    accuracy = read(found, labels)
    print(f'read: {accuracy:.3f}; as squares of one grey {before:.3f}')
    assert accuracy > before


@pytest.mark.parametrize('sigma', [0.2, 0.5, 1.0])
def test_the_noise_level_is_estimated(sigma, training):
    images = tensors('train')[0][:40]
    noisy = images + sigma * PerSampleNoise(0, range(40))(images)
    found = estimate_noise_level(training.consistency, noisy)
    print(f'{sigma}: {found.mean():.3f} +- {found.std():.3f}')
    assert found.mean() == pytest.approx(sigma, rel=0.15)
    assert found.std() < 0.3 * sigma
    # Of each picture by itself.
    torch.testing.assert_close(estimate_noise_level(training.consistency, noisy[:2]), found[:2])
    given, estimated = (
        (denoise_image(training.denoise, noisy, level) - images).square().mean().sqrt().item()
        for level in (sigma, found)
    )
    assert given < sigma
    assert estimated == pytest.approx(given, rel=0.1)


def test_labels_keep_their_pictures(build_model, monkeypatch):
    """The estimate goes class by class; each picture gets its own."""
    monkeypatch.setattr('mmagic_cm.editing.denoising.NUM_OWN', 4)
    model = build_model()
    images = 0.3 * torch.randn(2, 1, 8, 8)
    labels = torch.tensor([4, 1])
    whole = estimate_noise_level(model.denoiser, images, labels=labels)
    single = [
        estimate_noise_level(model.denoiser, images[i : i + 1], labels=labels[i]) for i in range(2)
    ]
    torch.testing.assert_close(whole, torch.cat(single), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('sigma', [0.0, [1.0, 2.0, 3.0], np.nan])
def test_bad_levels(sigma, training):
    with pytest.raises(InputError, match='sigma'):
        denoise_image(training.denoise, torch.zeros(2, 1, 8, 8), sigma)
