"""Walks between two pictures, or two noises."""

from itertools import pairwise

import torch

from ..diffusion.schedules import NoiseRange, karras_sigmas
from ..diffusion.solvers import heun_step, per_sample
from ..errors import InputError
from .loop import NUM_LEVELS, Denoiser, Labels, check_pictures, levels_of, with_labels


def interpolate(
    denoiser: Denoiser,
    first: torch.Tensor,
    second: torch.Tensor,
    num_images: int = 8,
    *,
    sigma: float | None = None,
    noise: torch.Tensor | None = None,
    teacher: Denoiser | None = None,
    labels: Labels = None,
) -> torch.Tensor:
    """Walk from one picture to another, one evaluation a picture (section 6.3, appendix D).

    Three ways, by what is given:

    * nothing more: ``first`` and ``second`` are standard normal noise, and the walk is spherical;
    * ``noise``: they are pictures, which the same noise hides at level ``sigma``; the less noise,
      the nearer the ends are to the pictures, and the more the middle is a double exposure;
    * ``teacher``: they are pictures, which its ODE carries up to level ``sigma``; the walk is
      spherical there, and the ends are the pictures, as far as model and teacher agree.

    Args:
        denoiser: ``D(x, sigma, labels)``, a consistency model.
        first: Float (N, C, H, W).
        second: Float (N, C, H, W).
        num_images: Pictures of each walk, both ends included, at least 2.
        sigma: The level; default: the denoiser's highest.
        noise: Standard normal, (N, C, H, W).
        teacher: ``D(x, sigma, labels)`` of a diffusion model, such as an EDM one.
        labels: int64 (N,), or one for all, of a conditional denoiser.

    Returns:
        Float (num_images, N, C, H, W) in [-1, 1].

    Raises:
        InputError: Pictures or settings that do not fit.
    """
    for name, picture in dict(first=first, second=second).items():
        check_pictures(picture, name)
    if first.shape != second.shape or (noise is not None and noise.shape != first.shape):
        raise InputError(
            f'first, second and noise must have one shape, not {tuple(first.shape)}, '
            f'{tuple(second.shape)}{"" if noise is None else f", {tuple(noise.shape)}"}.'
        )
    if num_images < 2:
        raise InputError(f'A walk has both ends: num_images must be at least 2, not {num_images}.')
    top = float(levels_of(denoiser)[0]) if sigma is None else float(sigma)
    sigma_min = NoiseRange.of(denoiser).sigma_min
    if not top > sigma_min:
        raise InputError(f'sigma must be above sigma_min = {sigma_min}, not {top}.')
    mix = slerp
    if teacher is not None:
        ends = [encode(teacher, picture, top, labels=labels) for picture in (first, second)]
    elif noise is not None:
        # On a sphere the shared noise would become more than sigma midway.
        ends, mix = [picture + top * noise for picture in (first, second)], torch.lerp
    else:
        ends = [top * first, top * second]
    denoise = with_labels(denoiser, labels, first)
    with torch.no_grad():
        shares = torch.linspace(0, 1, num_images).tolist()
        points = [mix(*ends, share) for share in shares]
        return torch.stack([denoise(x, per_sample(top, x)).clamp(-1, 1) for x in points])


def slerp(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """Between two points (N, ...) along a great circle, as far as ``share``, 0 to 1.

    A mix of independent noises keeps their variance so; along a straight line it would lose half
    of it midway.
    """
    a, b = first.flatten(1), second.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    angle = cosine.acos().reshape(-1, *[1] * (first.ndim - 1))
    sine = angle.sin()
    round_way = ((1 - share) * angle).sin() * first + (share * angle).sin() * second
    # Of nearly parallel points the circle is a line (and of opposite ones there are many).
    return torch.where(sine < 1e-4, torch.lerp(first, second, share), round_way / sine)


@torch.no_grad()
def encode(
    teacher: Denoiser,
    image: torch.Tensor,
    sigma: float,
    *,
    num_steps: int = NUM_LEVELS,
    labels: Labels = None,
) -> torch.Tensor:
    """Where the PF-ODE (eq. 2) has a picture at level ``sigma``: Heun's steps upwards.

    Args:
        teacher: ``D(x, sigma, labels)`` of a diffusion model.
        image: Float (N, C, H, W) in [-1, 1], taken to be at the lowest level.
        sigma: Level to reach, above the lowest.
        num_steps: Levels of the Karras grid up to ``sigma``.
        labels: int64 (N,), or one for all, of a conditional teacher.
    """
    denoise = with_labels(teacher, labels, image)
    low = NoiseRange.of(teacher).sigma_min or NoiseRange.sigma_min  # steps divide by it
    levels = karras_sigmas(num_steps, low, sigma).flip(0).tolist()
    x = image
    for level, next_level in pairwise(levels):
        x = heun_step(denoise, x, level, next_level)
    return x
