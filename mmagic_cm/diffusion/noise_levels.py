"""The distributions that training draws noise levels from."""

import math

import torch


def lognormal_sigmas(
    n: int,
    mean: float,
    std: float,
    generator: torch.Generator | None = None,
    device: torch.device | str = 'cpu',
) -> torch.Tensor:
    """N noise levels with ln sigma ~ N(mean, std^2) (arXiv:2206.00364, table 1), float32 (n,)."""
    return (torch.randn(n, generator=generator, device=device) * std + mean).exp()


def discrete_lognormal_probs(sigmas: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Probabilities of the intervals of a grid under a log-normal (arXiv:2310.14189, section 3.5).

    Args:
        sigmas: (n,) levels, descending.
        mean: Mean of ln sigma.
        std: Standard deviation of ln sigma.

    Returns:
        (n - 1,), summing to 1; entry i belongs to the pair ``sigmas[i] > sigmas[i + 1]``.
    """
    cdf = torch.erf((sigmas.double().log() - mean) / (math.sqrt(2) * std))
    mass = cdf[:-1] - cdf[1:]
    return (mass / mass.sum()).float()
