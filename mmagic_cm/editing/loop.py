"""The one loop of zero-shot editing (algorithm 4), for any operator."""

from collections.abc import Callable, Sequence

import torch

from ..diffusion.samplers import Noise, Sigmas, sample_multistep
from ..diffusion.schedules import NoiseRange, check_levels
from ..errors import InputError
from ..models.data_preprocessor import check_labels
from .operators import Operator, into_gamut

Denoiser = Callable[..., torch.Tensor]
Labels = torch.Tensor | Sequence[int] | int | None
NUM_LEVELS = 40


def levels_of(
    denoiser: Denoiser,
    num_steps: int = NUM_LEVELS,
    sigma_max: float | None = None,
    sigma_min: float | None = None,
) -> torch.Tensor:
    """The Karras grid of a denoiser, or of a part of its range.

    Returns:
        float32 (num_steps,), descending.
    """
    return NoiseRange.of(denoiser).narrowed(sigma_min, sigma_max).grid(num_steps)


def edit(
    denoiser: Denoiser,
    operator: Operator,
    image: torch.Tensor,
    *,
    sigmas: Sigmas | None = None,
    noise: Noise | None = None,
    x_init: torch.Tensor | None = None,
    labels: Labels = None,
    num_resamples: int = 1,
    clip_denoised: bool = True,
    fit_gamut: bool = True,
    progress: bool = False,
) -> torch.Tensor:
    """Draw a picture that measures the same as ``image``: algorithm 4.

    Denoise, clip, put the measured part back, add noise of the next level, denoise ... This is
    multistep sampling (algorithm 1) with a denoiser whose pictures have the measured part.

    Args:
        denoiser: ``D(x, sigma, labels)``, a consistency model; without labels ``D(x, sigma)``.
        operator: What is kept.
        image: Float (N, C, H, W) in [-1, 1], of which only the measurement is used.
        sigmas: Levels visited, descending, one evaluation each; default: 40 of the Karras grid.
            The lowest level of the denoiser, ``sigma_min``, where it changes nothing, is left out.
        noise: Draws standard normal noise like a tensor; default :func:`torch.randn_like`.
        x_init: (N, C, H, W) at level ``sigmas[0]``; default: the degraded image and noise.
        labels: int64 (N,), or one for all, of a conditional denoiser.
        num_resamples: Visits of each level. 1 is the paper's loop, in which the filled part sees
            the known one only through the noise; repeats make them agree, at as many times the
            cost (the idea of RePaint, arXiv:2201.09865).
        clip_denoised: Clamp each denoised picture to [-1, 1].
        fit_gamut: Bring the result into [-1, 1] without changing the measurement, see
            :func:`~mmagic_cm.editing.operators.into_gamut`. The paper's code leaves the range.
        progress: Show a bar over the evaluations.

    Returns:
        Float (N, C, H, W); it measures the same as ``image``.

    Raises:
        InputError: Pictures, levels, labels or repeats that do not fit.
    """
    check_pictures(image)
    sigma_min = NoiseRange.of(denoiser).sigma_min
    sigmas = _check_levels(levels_of(denoiser) if sigmas is None else sigmas, sigma_min)
    if num_resamples < 1:
        raise InputError(f'num_resamples must be at least 1, not {num_resamples}.')
    noise = noise or torch.randn_like
    denoise = with_labels(denoiser, labels, image)
    measured = operator.measure(image)

    def constrained(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        denoised = denoise(x, sigma)
        return operator.replace(denoised.clamp(-1, 1) if clip_denoised else denoised, measured)

    with torch.no_grad():
        if x_init is None:
            x_init = operator.degrade(image) + sigmas[0] * noise(image)
        elif x_init.shape != image.shape:
            raise InputError(f'x_init is {tuple(x_init.shape)}, image {tuple(image.shape)}.')
        visits = [sigma for sigma in sigmas for _ in range(num_resamples)]
        found = sample_multistep(
            constrained, x_init, visits, noise=noise, progress=progress, sigma_min=sigma_min
        )
        return into_gamut(operator, found, image) if fit_gamut else found


def as_labels(denoiser: Denoiser, labels: Labels, like: torch.Tensor) -> torch.Tensor:
    """Labels (N,), or one for all of ``like`` (N, ...), as int64 (N,) beside them.

    Raises:
        InputError: Labels out of range, or too many or too few.
    """
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.ndim > 1 or labels.numel() not in (1, len(like)):
        raise InputError(
            f'Labels are whole numbers, one for each of the {len(like)} pictures, not '
            f'{labels.tolist()}.'
        )
    network = getattr(denoiser, 'network', None)
    if getattr(network, 'num_classes', None) is not None:
        null_class = getattr(network, 'null_class', False)
        check_labels(labels.reshape(-1), network.num_classes, null_class)
    return labels.expand(len(like)).to(like.device, torch.int64)


def with_labels(denoiser: Denoiser, labels: Labels, like: torch.Tensor) -> Denoiser:
    """``D(x, sigma)`` of a denoiser and labels, see :func:`as_labels`."""
    if labels is None:
        return denoiser
    chosen = as_labels(denoiser, labels, like)
    return lambda x, sigma: denoiser(x, sigma, chosen)


def check_pictures(image: torch.Tensor, name: str = 'image') -> None:
    """Refuse anything but float (N, C, H, W)."""
    if not torch.is_tensor(image) or image.ndim != 4 or not image.is_floating_point():
        kind = f'{tuple(image.shape)} {image.dtype}' if torch.is_tensor(image) else type(image)
        raise InputError(
            f'{name} must be a float tensor (N, C, H, W) in [-1, 1], such as '
            f'images.to_unit_range gives, not {kind}.'
        )


def _check_levels(sigmas: Sigmas, sigma_min: float) -> list[float]:
    """Levels as numbers, without those at which there is nothing left to denoise."""
    levels = check_levels(sigmas)
    # Grids are float32: their last level may be above sigma_min by the last bit.
    visited = [sigma for sigma in levels if sigma > sigma_min * (1 + 1e-6)]
    if not visited:
        raise InputError(f'sigmas must begin above sigma_min = {sigma_min}, not {levels}.')
    return visited
