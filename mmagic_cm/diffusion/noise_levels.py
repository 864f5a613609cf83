"""The distributions that training draws noise levels from."""

import math
from functools import lru_cache

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


def truncated_lognormal_quantiles(
    shares: torch.Tensor, mean: float, std: float, low: float, high: float
) -> torch.Tensor:
    """Quantiles of a log-normal restricted to [low, high] (arXiv:2410.14895, section 4).

    Of uniform shares they are draws from it.

    Args:
        shares: float64 (N,), in [0, 1].
        mean: Mean of ln sigma, before it is restricted.
        std: Standard deviation of ln sigma, likewise.
        low: The lowest level.
        high: The highest level.

    Returns:
        float64 (N,).
    """
    below, above = (
        0.5 * math.erfc((mean - math.log(end)) / std / math.sqrt(2)) for end in (low, high)
    )
    return (mean + std * torch.special.ndtri(below + shares * (above - below))).exp()


def truncated_student_quantiles(
    shares: torch.Tensor, df: float, mean: float, std: float, low: float, high: float
) -> torch.Tensor:
    """As :func:`truncated_lognormal_quantiles`, of ln sigma = mean + std T with Student's T.

    Args:
        shares: float64 (N,), in [0, 1].
        df: Degrees of freedom of T; the fewer there are, the heavier its tails.
        mean: See above.
        std: Scale of ln sigma.
        low: The lowest level.
        high: The highest level.

    Returns:
        float64 (N,).
    """
    ends = ((math.log(end) - mean) / std for end in (low, high))
    nodes, cdf, slopes = _student_table(df, *ends, shares.device)
    i = torch.searchsorted(cdf, shares, right=True).clamp(1, len(cdf) - 1)
    # The cubic between two nodes with the exact slopes at both.
    gap, rise = cdf[i] - cdf[i - 1], nodes[i] - nodes[i - 1]
    first, last = slopes[i - 1] * gap, slopes[i] * gap
    p = (shares - cdf[i - 1]) / gap
    bend = 3 * rise - 2 * first - last + p * (first + last - 2 * rise)
    found = nodes[i - 1] + p * (first + p * bend)
    return (mean + std * math.sqrt(df) * found.sinh()).exp()


@lru_cache(maxsize=8)
def _student_table(
    df: float, low: float, high: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of s = arsinh(T / sqrt(df)) between two values of T: nodes, their CDF, and ds / dCDF there.

    The density of s is proportional to cosh(s)^-df, which is smooth however heavy the tails.
    """
    with torch.inference_mode(False):
        ends = (math.asinh(end / math.sqrt(df)) for end in (low, high))
        nodes = torch.linspace(*ends, 4097, dtype=torch.float64, device='cpu')
        half = (nodes[1] - nodes[0]) / 2
        middles = nodes[:-1] + half
        # Gauss's rule of two points in each interval.
        inside = middles - half / math.sqrt(3), middles + half / math.sqrt(3)
        mass = half * sum(s.cosh() ** -df for s in inside)
        cdf = torch.cat([torch.zeros_like(mass[:1]), mass.cumsum(0)])
        slopes = cdf[-1] * nodes.cosh() ** df
        return nodes.to(device), (cdf / cdf[-1]).to(device), slopes.to(device)
