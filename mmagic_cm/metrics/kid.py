"""Kernel Inception distance (arXiv:1801.01401), in float64."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log

from ..errors import InputError
from ..io.devices import choose_device
from .arrays import as_tensor


class KernelDistance(NamedTuple):
    """Mean and standard deviation over the subsets."""

    mean: float
    std: float


def kernel_distance(
    real: np.ndarray | torch.Tensor,
    generated: np.ndarray | torch.Tensor,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> KernelDistance:
    """Squared maximum mean discrepancy under the kernel ``(x.y / D + 1)^3``.

    The unbiased estimate (section 4 of the paper) of each of many random subsets; it may be
    negative. With torch-fidelity's seed, 2020, and ``generated`` first these are its subsets.

    Args:
        real: Features (N, D).
        generated: Features (M, D).
        num_subsets: How many.
        subset_size: Images of each set in a subset, without repetition. Where a set has fewer,
            all subsets shrink to that number, with a warning.
        seed: Draws the subsets.
        device: Where to compute. Defaults to a GPU where there is one.

    Raises:
        InputError: Fewer than two images, dimensions that differ, or numbers that are not finite.
    """
    real, generated = as_tensor(real, 'real features'), as_tensor(generated, 'generated features')
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f'Features of {real.shape[1]} and {generated.shape[1]} dimensions cannot be compared.'
        )
    fewest = min(len(real), len(generated))
    if fewest < 2 or num_subsets < 1 or subset_size < 2:
        raise InputError(
            f'KID needs subsets of at least 2 images: {len(real)} real and {len(generated)} '
            f'generated images cannot give {num_subsets} subsets of {subset_size}.'
        )
    if fewest < subset_size:
        print_log(
            f'kid: with {fewest} images its subsets have {fewest} instead of {subset_size}.',
            'current',
            logging.WARNING,
        )
        subset_size = fewest
    device = choose_device(device)
    # The old generator, whose draws never change and are torch-fidelity's.
    generator = np.random.RandomState(seed)
    distances = []
    for _ in range(num_subsets):
        y, x = (
            features[generator.choice(len(features), subset_size, replace=False)]
            for features in (generated, real)
        )
        distances.append(_squared_mmd(x.to(device).double(), y.to(device).double()))
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)))


def _squared_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    """Unbiased, of two sets (n, D)."""
    count = len(x)
    within = sum(_kernel(z, z).fill_diagonal_(0).sum() for z in (x, y)) / (count * (count - 1))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
