"""Algorithm 4: the reference's numbers, and a Gaussian whose answer is known."""

from itertools import pairwise

import pytest
import torch

from mmagic_cm.diffusion.noise import PerSampleNoise
from mmagic_cm.diffusion.schedules import karras_sigmas
from mmagic_cm.editing import Mask, colorize, edit, inpaint, stroke_edit, super_resolve
from mmagic_cm.editing.loop import levels_of
from mmagic_cm.errors import InputError


def stand_in(x, sigma):
    """The denoiser with which the reference numbers were recorded."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    return 0.9 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2).sqrt())


def replay(draws):
    draws = iter(draws)
    return lambda like: next(draws)


@pytest.mark.parametrize(
    ('row', 'task'), [('colorization', colorize), ('superres8', super_resolve)]
)
def test_rows_of_the_reference(row, task, goldens):
    recorded = goldens('samplers')
    noise, image = recorded['noise'], recorded['image']
    settings = dict(
        # The reference's visits: the end of the grid is reached, not evaluated.
        sigmas=karras_sigmas(int(recorded['steps']))[recorded['ts']],
        x_init=80 * noise[0],
    )
    raw = task(stand_in, image, noise=replay(noise[1:]), fit_gamut=False, **settings)
    torch.testing.assert_close(raw, recorded[row], rtol=1e-4, atol=1e-5)
    assert raw.abs().max() > 1.04  # which is why the gamut step follows
    found = task(stand_in, image, noise=replay(noise[1:]), **settings)
    assert found.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ('row', 'task'), [('colorization', colorize), ('superres8', super_resolve)]
)
def test_it_starts_from_the_degraded_picture(row, task, goldens):
    recorded = goldens('samplers')
    seen = []

    def denoise(x, sigma):
        seen.append(x)
        return stand_in(x, sigma)

    task(denoise, recorded['image'], sigmas=[80.0], noise=torch.zeros_like)
    torch.testing.assert_close(seen[0], recorded[f'{row}_degraded'], rtol=0, atol=1e-6)


def test_small_and_gray_pictures_of_a_user(goldens):
    image = goldens('samplers')['image']
    gray = (image * torch.tensor([0.2989, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    noise = dict(noise=torch.zeros_like, sigmas=[5.0, 1.0])
    by_name = colorize(stand_in, gray=gray / 0.9999, **noise)
    torch.testing.assert_close(by_name, colorize(stand_in, image, **noise), rtol=0, atol=1e-5)
    small = torch.nn.functional.avg_pool2d(image, 4)
    by_name = super_resolve(stand_in, factor=4, low_res=small, **noise)
    torch.testing.assert_close(
        by_name, super_resolve(stand_in, image, 4, **noise), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(by_name, 4), small, rtol=0, atol=1e-6)


def test_levels_are_visited_in_turn_and_repeated():
    seen = []

    def denoise(x, sigma):
        seen.append((sigma[0].item(), x[0, 0, 3, 3].item()))
        return 0 * x

    settings = dict(noise=torch.ones_like, mask=torch.eye(4) * 0 + 1 - torch.eye(4))
    inpaint(denoise, torch.zeros(2, 1, 4, 4), sigmas=(5.0, 2.0, 0.002), num_resamples=2, **settings)
    # From the degraded picture, then each time from 0 by the noise of the level.
    assert [level for level, _ in seen] == [5.0, 5.0, 2.0, 2.0]
    assert [value for _, value in seen] == pytest.approx([5.0, 5.0, 2.0, 2.0], rel=1e-5)


def test_the_default_is_forty_levels_of_the_denoiser():
    seen = []

    def denoise(x, sigma):
        seen.append(sigma[0].item())
        return 0 * x

    image = torch.zeros(1, 1, 4, 4)
    inpaint(denoise, image, torch.eye(4))
    assert seen == karras_sigmas(40)[:-1].tolist()
    seen.clear()
    denoise.sigma_max = 10.0
    inpaint(denoise, image, torch.eye(4))
    assert seen == levels_of(denoise)[:-1].tolist()
    assert seen[0] == 10
    seen.clear()
    stroke_edit(denoise, image)
    assert seen == pytest.approx([5.38, 2.24])


class CorrelatedGaussian:
    """N(0, C) of 16 dimensions, C_ij = 0.25 * 0.85^|i - j|, and its exact consistency function."""

    def __init__(self):
        steps = torch.arange(16, dtype=torch.float64)
        self.covariance = 0.25 * 0.85 ** (steps[:, None] - steps).abs()
        self.values, self.vectors = torch.linalg.eigh(self.covariance)

    def __call__(self, x, sigma):
        """The ODE of each eigenvector by itself: v to sqrt(v + eps^2) / sqrt(v + sigma^2)."""
        v = self.values
        shrink = ((v + 0.002**2) / (v + sigma.double()[:, None] ** 2)).sqrt()
        found = (x.double().flatten(1) @ self.vectors * shrink) @ self.vectors.T
        return found.reshape(x.shape)

    def conditional(self, known):
        """Mean (8,) and standard deviation (8,) of the last 8, given the first 8."""
        c = self.covariance
        gain = c[8:, :8] @ torch.linalg.inv(c[:8, :8])
        return gain @ known, (c[8:, 8:] - gain @ c[:8, 8:]).diagonal().sqrt()


def errors(seed, num_resamples, sigmas):
    """Of 2,000 candidates: largest error of the mean (in prior deviations), of the spread."""
    data = CorrelatedGaussian()
    draw = torch.randn(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    picture = torch.linalg.cholesky(data.covariance) @ draw
    image = picture.reshape(1, 1, 1, 16).expand(2000, -1, -1, -1)
    generator = torch.Generator().manual_seed(seed)
    found = edit(
        data,
        Mask((torch.arange(16) < 8)[None]),
        image,
        sigmas=sigmas,
        num_resamples=num_resamples,
        noise=lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype),
        clip_denoised=False,  # a Gaussian has no bounds
        fit_gamut=False,
    ).flatten(1)
    assert torch.equal(found[:, :8], image.flatten(1)[:, :8])
    mean, spread = data.conditional(picture[:8])
    return (
        ((found[:, 8:].mean(0) - mean) / 0.5).abs().max().item(),
        (found[:, 8:].std(0) / spread - 1).abs().max().item(),
    )


@pytest.mark.parametrize('seed', [0, 4])
def test_resampling_draws_from_the_conditional_gaussian(seed):
    """At 40 levels where the Gaussian lives; the paper's 40 leave few of them there."""
    repeated = errors(seed, 20, karras_sigmas(40, 0.05, 5.0))
    plain = errors(seed, 1, karras_sigmas(40))
    print(
        'mean, spread off by: plain {:.3f} {:.3f}, resampled {:.3f} {:.3f}'.format(
            *plain, *repeated
        )
    )
    assert max(repeated) < 0.1
    assert plain[0] > 3 * repeated[0]
    assert plain[1] > 3 * repeated[1]


def test_resampling_at_the_levels_of_the_paper():
    mean, spread = errors(0, 20, karras_sigmas(40))
    assert mean < 0.15
    assert spread < 0.1


def test_each_candidate_has_its_noise(build_model):
    """Not a matter of the batch: image i depends on (seed, i) alone."""
    model = build_model()
    image, mask = torch.rand(5, 1, 8, 8) - 0.5, torch.eye(8)
    labels = torch.tensor([3, 1, 4, 1, 5])
    settings = dict(sigmas=(80.0, 2.0, 0.5), num_resamples=2)
    whole = inpaint(
        model.denoiser, image, mask, labels=labels, noise=PerSampleNoise(7, range(5)), **settings
    )
    for begin, end in pairwise((0, 2, 5)):
        of = slice(begin, end)
        part = inpaint(
            model.denoiser,
            image[of],
            mask,
            labels=labels[of],
            noise=PerSampleNoise(7, range(begin, end)),
            **settings,
        )
        torch.testing.assert_close(part, whole[of], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(sigmas=(1.0, 80.0)), 'descend'),
        (dict(sigmas=(float('inf'), 1.0)), 'finite'),
        (dict(sigmas=(0.001,)), 'sigma_min'),
        (dict(num_resamples=0), 'num_resamples'),
        (dict(x_init=torch.zeros(1, 1, 4, 4)), 'x_init'),
        (dict(labels=[10, 0]), 'Label 10'),
        (dict(labels=[1, 2, 3]), '2'),
        (dict(labels=0.5), '0.5'),
        ({}, 'labels'),
        (dict(image=torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), 'uint8'),
        (dict(image=torch.zeros(8, 8)), r'\(8, 8\)'),
    ],
)
def test_bad_input(settings, name, model):
    image = settings.pop('image', torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match=name):
        inpaint(model.denoiser, image, torch.eye(8), **settings)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(image=torch.zeros(1, 3, 8, 8), gray=torch.zeros(1, 1, 8, 8)),
        dict(gray=torch.zeros(1, 3, 8, 8)),
    ],
)
def test_one_picture_is_given(settings):
    with pytest.raises(InputError, match='gray'):
        colorize(stand_in, **settings)
