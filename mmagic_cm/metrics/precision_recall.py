"""Improved precision and recall (arXiv:1904.06991), in float64."""

from typing import NamedTuple

import numpy as np
import torch

from ..errors import InputError
from ..io.devices import choose_device
from .arrays import BLOCK, as_tensor

# Rounding of a squared distance, relative to the squared lengths of its two vectors.
_ROUNDING = 1e-12


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1.

    Attributes:
        precision: Generated images that lie within the manifold of the real ones.
        recall: Real images that lie within the manifold of the generated ones.
    """

    precision: float
    recall: float


def precision_recall(
    real: np.ndarray | torch.Tensor,
    generated: np.ndarray | torch.Tensor,
    k: int = 3,
    device: str | torch.device | None = None,
    block: int = BLOCK,
) -> PrecisionRecall:
    """Shares of each set that lie in the other's manifold.

    A manifold is the union of balls around the images, each as large as the distance to the k-th
    nearest other image of the set (eq. 1 and 2); a point on the surface is inside.

    Args:
        real: Features (N, D), N above ``k``.
        generated: Features (M, D), M above ``k``.
        k: 3 is what is published.
        device: Where to compute. Defaults to a GPU where there is one.
        block: Images of each set whose distances are computed at once.

    Raises:
        InputError: Too few images, dimensions that differ, or numbers that are not finite.
    """
    real, generated = as_tensor(real, 'real features'), as_tensor(generated, 'generated features')
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f'Features of {real.shape[1]} and {generated.shape[1]} dimensions cannot be compared.'
        )
    if min(len(real), len(generated)) <= k:
        raise InputError(
            f'Precision and recall with k = {k} need at least {k + 1} images of each set, not '
            f'{len(real)} real and {len(generated)} generated ones.'
        )
    device = choose_device(device)
    # Distances do not see a shift, and their rounding is least near the origin.
    centre = real.mean(0, dtype=torch.float64)
    r, g = (_Set(features, centre, k, block, device) for features in (real, generated))
    in_generated = torch.zeros(len(r), dtype=torch.bool, device=device)
    in_real = torch.zeros(len(g), dtype=torch.bool, device=device)
    for i in r.slices():
        for j in g.slices():
            distances = r.distances(i, g, j)
            distances -= _ROUNDING * (r.lengths[i, None] + g.lengths[j])
            in_generated[i] |= (distances <= g.radii[j]).any(1)
            in_real[j] |= (distances <= r.radii[i, None]).any(0)
    return PrecisionRecall(in_real.double().mean().item(), in_generated.double().mean().item())


class _Set:
    """Centred features in float64, their squared lengths, and the squared radius of each ball."""

    def __init__(
        self,
        features: torch.Tensor,
        centre: torch.Tensor,
        k: int,
        block: int,
        device: torch.device,
    ) -> None:
        self.features = features.to(device) - centre.to(device)
        self.lengths = torch.einsum('nd,nd->n', self.features, self.features)
        self.block = block
        self.radii = self._radii(k)

    def __len__(self) -> int:
        return len(self.features)

    def slices(self) -> list[slice]:
        """Of the blocks of images."""
        return [slice(i, i + self.block) for i in range(0, len(self), self.block)]

    def distances(self, rows: slice, other: '_Set', columns: slice) -> torch.Tensor:
        """Squared distances of a block of images to a block of another set."""
        found = self.features[rows] @ other.features[columns].T
        found.mul_(-2).add_(self.lengths[rows, None]).add_(other.lengths[columns])
        return found

    def _radii(self, k: int) -> torch.Tensor:
        """Squared distance of each image to its k-th nearest other one."""
        nearest = self.features.new_full((len(self), k), torch.inf)
        slices = self.slices()
        for i, rows in enumerate(slices):
            for columns in slices[i:]:  # the matrix is symmetric
                distances = self.distances(rows, self, columns)
                if rows == columns:
                    distances.fill_diagonal_(torch.inf)
                else:
                    nearest[columns] = _smallest(nearest[columns], distances.T)
                nearest[rows] = _smallest(nearest[rows], distances)
        return nearest[:, -1].clamp(min=0)


def _smallest(known: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """The k smallest of (n, k) and (n, m), in order."""
    k = known.shape[1]
    found = distances.topk(min(k, distances.shape[1]), largest=False, sorted=False).values
    return torch.cat([known, found], 1).topk(k, largest=False).values
