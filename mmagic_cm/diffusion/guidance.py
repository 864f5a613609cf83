"""Classifier-free guidance (Ho & Salimans, arXiv:2207.12598)."""

from collections.abc import Callable

import torch

from ..errors import InputError
from .solvers import expand

# The label of "no class", for networks that were trained with some of their labels dropped.
NO_CLASS = -1


def guided(denoiser: Callable, scale: float | torch.Tensor) -> Callable:
    """A denoiser that exaggerates what the label changes: D_0 + scale (D_label - D_0).

    Args:
        denoiser: D(x, sigma, labels), which knows the label ``NO_CLASS``.
        scale: A number, or one for each sample, (N,). 1 is the denoiser itself, 0 the
            unconditional one, more than 1 is guidance (the paper's 1 + w, eq. 6).

    Returns:
        D(x, sigma, labels), at the cost of two evaluations in one batch.
    """

    def denoise(
        x: torch.Tensor,
        sigma: torch.Tensor,
        labels: torch.Tensor | None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        if labels is None:
            raise InputError('Guidance needs class labels.')
        both = denoiser(
            torch.cat([x, x]),
            torch.cat([sigma, sigma]),
            torch.cat([labels, torch.full_like(labels, NO_CLASS)]),
            **{name: torch.cat([value, value]) for name, value in conditions.items()},
        )
        conditional, unconditional = both.chunk(2)
        factor = expand(scale, x) if torch.is_tensor(scale) else scale
        return unconditional + factor * (conditional - unconditional)

    return denoise


def drop_labels(
    labels: torch.Tensor, prob: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Labels (N,), each replaced by ``NO_CLASS`` with a probability."""
    dropped = torch.rand(len(labels), generator=generator, device=labels.device) < prob
    return labels.masked_fill(dropped, NO_CLASS)
