"""Denoising at a given noise level, or at one that is estimated."""

from collections.abc import Sequence

import torch

from ..diffusion.noise import PerSampleNoise
from ..diffusion.schedules import karras_sigmas
from ..diffusion.solvers import per_sample
from ..errors import InputError
from .loop import Denoiser, Labels, as_labels, check_pictures, levels_of, with_labels

NUM_TRIED = 24
NUM_OWN = 32
LARGEST_TRIED = 10.0


def denoise_image(
    denoiser: Denoiser,
    image: torch.Tensor,
    sigma: float | torch.Tensor | None = None,
    *,
    labels: Labels = None,
    seed: int = 0,
) -> torch.Tensor:
    """Remove Gaussian noise, in one evaluation (appendix D).

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, C, H, W), pictures in [-1, 1] plus noise, not clipped.
        sigma: Standard deviation of the noise, on the scale of [-1, 1]; one for all, or (N,).
            Default: estimated by :func:`estimate_noise_level`.
        labels: int64 (N,), or one for all, of a conditional denoiser.
        seed: Of the estimate.

    Returns:
        Float (N, C, H, W) in [-1, 1].

    Raises:
        InputError: Pictures, levels or labels that do not fit.
    """
    check_pictures(image)
    if sigma is None:
        sigma = estimate_noise_level(denoiser, image, labels=labels, seed=seed)
    sigma = torch.as_tensor(sigma, dtype=torch.float32)
    if sigma.ndim > 1 or sigma.numel() not in (1, len(image)) or not sigma.log().isfinite().all():
        raise InputError(
            f'sigma must be positive and finite, one for all or for each of the {len(image)} '
            f'pictures, not {sigma.tolist()}.'
        )
    with torch.no_grad():
        return with_labels(denoiser, labels, image)(image, per_sample(sigma, image)).clamp(-1, 1)


def estimate_noise_level(
    denoiser: Denoiser,
    image: torch.Tensor,
    *,
    labels: Labels = None,
    seed: int = 0,
) -> torch.Tensor:
    """How much noise lies on each picture.

    Denoising takes away the more the noisier the picture is. So this is the level at which it takes
    as much from the picture as from the model's own samples with that much noise on them. (The
    usual estimate, by the finest wavelets, needs pictures much larger than their details: on
    digits of 8 x 8 pixels it finds 0.3 where there is nothing.)

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, C, H, W), pictures in [-1, 1] plus noise, not clipped.
        labels: int64 (N,), or one for all, of a conditional denoiser.
        seed: Of the model's own samples: the estimate of a picture depends on no other one.

    Returns:
        float32 (N,), standard deviations on the scale of [-1, 1], 0.02 to 10.
    """
    check_pictures(image)
    if labels is None:
        return _estimate(denoiser, image, seed)
    labels = as_labels(denoiser, labels, image)
    found = torch.empty(len(image), device=image.device)
    for label in labels.unique():
        chosen = labels == label
        found[chosen] = _estimate(denoiser, image[chosen], seed, label)
    return found


@torch.no_grad()
def _estimate(
    denoiser: Denoiser, image: torch.Tensor, seed: int, label: torch.Tensor | None = None
) -> torch.Tensor:
    """The estimate for pictures of one label."""

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return with_labels(denoiser, label, x)(x, per_sample(sigma, x)).clamp(-1, 1)

    def taken(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return (x - denoise(x, sigma)).flatten(1).square().mean(1).sqrt()

    noise = PerSampleNoise(seed, range(NUM_OWN))
    start = noise(image[:1].expand(NUM_OWN, -1, -1, -1))
    top = float(levels_of(denoiser)[0])
    own = denoise(top * start, top)
    levels = karras_sigmas(NUM_TRIED, 0.02, LARGEST_TRIED).flip(0).tolist()
    excess = [taken(image, s) - taken(own + s * noise(own), s).mean() for s in levels]
    return _first_crossing(levels, torch.stack(excess))


def _first_crossing(levels: Sequence[float], excess: torch.Tensor) -> torch.Tensor:
    """Where (L, N) values over ascending levels first fall to 0, between levels by their logs."""
    logs = torch.tensor(levels, device=excess.device).log()
    # The last level counts as one, lest there be none.
    below = torch.cat([excess[:-1] <= 0, torch.ones_like(excess[:1], dtype=torch.bool)])
    after = below.int().argmax(0)
    before = (after - 1).clamp(min=0)
    high, low = excess.gather(0, before[None])[0], excess.gather(0, after[None])[0]
    share = torch.where(after > before, high / (high - low).clamp(min=1e-12), 0.0).clamp(0, 1)
    return (logs[before] + share * (logs[after] - logs[before])).exp()
