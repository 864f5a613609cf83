"""The Fréchet distance of two Gaussians, in float64."""

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..io.devices import choose_device
from .arrays import BLOCK, as_tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features.

    Attributes:
        mean: (D,), float64.
        covariance: (D, D), float64, symmetric; of a sample the unbiased one (divided by N - 1).
        count: How many images they are of; None: not known.

    Raises:
        InputError: The shapes do not fit, or numbers are not finite.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None

    def __post_init__(self) -> None:
        mean, covariance = (np.asarray(x, np.float64) for x in (self.mean, self.covariance))
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
            raise InputError(
                f'A Gaussian has a mean (D,) and a covariance (D, D), not {mean.shape} and '
                f'{covariance.shape}.'
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise InputError('The mean or the covariance of a Gaussian is not finite.')
        object.__setattr__(self, 'mean', mean)
        object.__setattr__(self, 'covariance', covariance)

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean)

    @classmethod
    def fit(
        cls, features: np.ndarray | torch.Tensor, device: str | torch.device | None = None
    ) -> 'Gaussian':
        """The mean and the unbiased covariance of features (N, D).

        Args:
            features: (N, D), any type of number, N at least 2.
            device: Where to compute. Defaults to a GPU where there is one.

        Raises:
            InputError: Fewer than two, another shape, or numbers that are not finite.
        """
        accumulator = GaussianAccumulator(device)
        accumulator.update(features)
        return accumulator.result()


class GaussianAccumulator:
    """Mean and covariance of features that come in batches; only their sums are kept.

    Each block is centred on its own mean and then merged (Chan, Golub & LeVeque, 1983), so that
    nothing is lost where the mean is large against the spread.

    Args:
        device: Where to compute. Defaults to a GPU where there is one.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.device = choose_device(device)
        self.count = 0
        self._mean: torch.Tensor | None = None
        self._scatter: torch.Tensor | None = None  # sum of (x - mean)(x - mean)^T

    def update(self, features: np.ndarray | torch.Tensor) -> None:
        """Take in features (n, D), n at least 1.

        Raises:
            InputError: Another shape, or numbers that are not finite.
        """
        features = as_tensor(features)
        if self._mean is None:
            size = features.shape[1]
            self._mean = torch.zeros(size, dtype=torch.float64, device=self.device)
            self._scatter = torch.zeros(size, size, dtype=torch.float64, device=self.device)
        for block in features.split(BLOCK):
            self._merge(block.to(self.device, torch.float64))

    def _merge(self, block: torch.Tensor) -> None:
        total = self.count + len(block)
        mean = block.mean(0)
        centred = block - mean
        shift = mean - self._mean
        self._scatter.addmm_(centred.T, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * len(block) / total)
        self._mean += shift * (len(block) / total)
        self.count = total

    def result(self) -> Gaussian:
        """The Gaussian of all that came.

        Raises:
            InputError: Fewer than two images came.
        """
        if self.count < 2:
            raise InputError(
                f'A covariance needs at least 2 images, not {self.count}: give more images.'
            )
        covariance = self._scatter / (self.count - 1)
        covariance = (covariance + covariance.T) / 2  # a gemm may round the halves differently
        return Gaussian(self._mean.cpu().numpy(), covariance.cpu().numpy(), self.count)


def frechet(a: Gaussian, b: Gaussian, device: str | torch.device | None = None) -> float:
    """The squared Fréchet distance of two Gaussians (arXiv:1706.08500, eq. 6).

    ``|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``

    The last trace is the sum of the singular values of ``F_a^T F_b``, where ``C = F F^T``. Unlike
    the square roots of the eigenvalues of ``C_a C_b`` it keeps its precision where a covariance
    is singular, as it is with fewer images than dimensions.

    Args:
        a: One.
        b: The other, of the same dimension.
        device: Where to compute. Defaults to a GPU where there is one.

    Returns:
        The distance, at least 0.

    Raises:
        InputError: The dimensions differ.
    """
    if a.dimension != b.dimension:
        raise InputError(
            f'Gaussians of {a.dimension} and {b.dimension} dimensions cannot be compared: they '
            f'are of different features.'
        )
    device = choose_device(device)
    shift = ((a.mean - b.mean) ** 2).sum()
    cross = torch.linalg.svdvals(_factor(a, device).T @ _factor(b, device)).sum().item()
    return float(max(shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross, 0))


def _factor(gaussian: Gaussian, device: torch.device) -> torch.Tensor:
    """F (D, rank) with F F^T = C."""
    values, vectors = torch.linalg.eigh(torch.from_numpy(gaussian.covariance).to(device))
    # What is below this is rounding, and its square root would not be small.
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def frechet_distance(
    a: np.ndarray | torch.Tensor,
    b: np.ndarray | torch.Tensor,
    device: str | torch.device | None = None,
) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets, see :func:`frechet`.

    Args:
        a: Features (N, D), N at least 2.
        b: Features (M, D), M at least 2.
        device: Where to compute. Defaults to a GPU where there is one.

    Returns:
        The distance, at least 0.
    """
    return frechet(Gaussian.fit(a, device), Gaussian.fit(b, device), device)
