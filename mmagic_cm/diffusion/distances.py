"""Distances d(a, b) of two batches (N, C, H, W): one number a sample, (N,)."""

import math

import torch
import torch.nn.functional as F

from ..registry import DISTANCES


@DISTANCES.register_module('l1')
def l1(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference."""
    return (a - b).abs().flatten(1).mean(1)


@DISTANCES.register_module('l2')
def l2(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared difference."""
    return (a - b).square().flatten(1).mean(1)


@DISTANCES.register_module('l2-32')
def l2_32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """:func:`l2` after bilinear resizing to 32 x 32."""
    # Resizing is linear: one resize of the difference serves both.
    return F.interpolate(a - b, size=32, mode='bilinear').square().flatten(1).mean(1)


@DISTANCES.register_module('pseudo-huber')
class PseudoHuber:
    """``sqrt(|a - b|^2 + c^2) - c`` with the squared norm summed (arXiv:2310.14189, section 3.3).

    Args:
        c: Where it turns from quadratic to linear. None: 0.00054 sqrt(d), d numbers a sample.
    """

    def __init__(self, c: float | None = None) -> None:
        self.c = c

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The distances, (N,)."""
        c = 0.00054 * math.sqrt(a[0].numel()) if self.c is None else self.c
        if c == 0:  # the root has no derivative at 0, and the norm the one that is 0 there
            return torch.linalg.vector_norm((a - b).flatten(1), dim=1)
        return ((a - b).square().flatten(1).sum(1) + c**2).sqrt() - c
