"""The tasks of the paper's section 6.3 and appendix D, as calls of the one loop."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import InputError
from .loop import Denoiser, check_pictures, edit
from .operators import Guide, Luminance, Mask, PatchMean

STROKE_LEVELS = (5.38, 2.24)  # the paper's, appendix D


def inpaint(
    denoiser: Denoiser, image: torch.Tensor, mask: torch.Tensor, **settings: Any
) -> torch.Tensor:
    """Fill what a mask leaves out; known pixels stay as they are, bit for bit.

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, C, H, W) in [-1, 1].
        mask: 1 = keep, 0 = fill; (H, W), (N, H, W) or (N, 1, H, W).
        **settings: Of :func:`~mmagic_cm.editing.loop.edit`: ``sigmas``, ``noise``, ``x_init``,
            ``labels``, ``num_resamples``, ...

    Returns:
        Float (N, C, H, W) in [-1, 1].
    """
    return edit(denoiser, Mask(mask), image, **settings)


def colorize(
    denoiser: Denoiser,
    image: torch.Tensor | None = None,
    *,
    gray: torch.Tensor | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Give a grey picture colours; its luminance stays.

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, 3, H, W) in [-1, 1], of which only the luminance is used.
        gray: Instead of ``image``: float (N, 1, H, W) in [-1, 1].
        **settings: Of :func:`~mmagic_cm.editing.loop.edit`.

    Returns:
        Float (N, 3, H, W) in [-1, 1].
    """
    return edit(denoiser, Luminance(), _one_of(image, 'gray', gray, _colored), **settings)


def super_resolve(
    denoiser: Denoiser,
    image: torch.Tensor | None = None,
    factor: int = 8,
    *,
    low_res: torch.Tensor | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Give a small picture details; the means of its patches stay.

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, C, H, W) in [-1, 1], of which only the means of patches are used.
        factor: Side of a patch in pixels; divides H and W.
        low_res: Instead of ``image``: float (N, C, H / factor, W / factor) in [-1, 1].
        **settings: Of :func:`~mmagic_cm.editing.loop.edit`.

    Returns:
        Float (N, C, H, W) in [-1, 1].
    """
    operator = PatchMean(factor)
    return edit(
        denoiser, operator, _one_of(image, 'low_res', low_res, operator.enlarge), **settings
    )


def _colored(gray: torch.Tensor) -> torch.Tensor:
    if gray.shape[1] != 1:
        raise InputError(f'gray must have one channel, (N, 1, H, W), not {tuple(gray.shape)}.')
    return gray.expand(-1, 3, -1, -1)


def _one_of(
    image: torch.Tensor | None, name: str, measured: torch.Tensor | None, enlarge: Callable
) -> torch.Tensor:
    """The full-size picture, or one that measures as the small one."""
    if (image is None) == (measured is None):
        raise InputError(f'Give either the full-size image or {name}.')
    if image is not None:
        return image
    check_pictures(measured, name)
    return enlarge(measured)


def stroke_edit(
    denoiser: Denoiser,
    image: torch.Tensor,
    *,
    sigmas: Sequence[float] = STROKE_LEVELS,
    **settings: Any,
) -> torch.Tensor:
    """Turn a rough painting into a picture like those of the training (SDEdit, arXiv:2108.01073).

    Args:
        denoiser: See :func:`~mmagic_cm.editing.loop.edit`.
        image: Float (N, C, H, W) in [-1, 1], the painting.
        sigmas: The first says how much noise hides the painting: more is more freedom.
        **settings: Of :func:`~mmagic_cm.editing.loop.edit`.

    Returns:
        Float (N, C, H, W) in [-1, 1].
    """
    return edit(denoiser, Guide(), image, sigmas=sigmas, **settings)
