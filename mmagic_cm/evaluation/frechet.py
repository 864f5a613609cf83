"""The Fréchet distance between two sets of features, in float64."""

import numpy as np

from ..errors import InputError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of the Gaussians fitted to two sets (arXiv:1706.08500, eq. 6).

    ``|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``

    Args:
        a: Features (N, D), N at least 2.
        b: Features (M, D), M at least 2.

    Returns:
        The (squared) distance, at least 0 up to rounding.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f'Features must be (N, D) and (M, D), not {a.shape} and {b.shape}.')
    a, b = a.astype(np.float64), b.astype(np.float64)
    shift = np.sum((a.mean(0) - b.mean(0)) ** 2)
    cov_a, cov_b = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    # The eigenvalues of C_a C_b are those of the symmetric C_a^(1/2) C_b C_a^(1/2).
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)
