"""Loss weights lambda(sigma).

A weighting is called as ``weighting(sigma, next_sigma, sigma_data)`` with (N,) tensors, where
``next_sigma < sigma`` is the level at which the target is evaluated (0 when the target is the
clean image), and returns (N,).
"""

import torch

from ..registry import WEIGHTINGS


@WEIGHTINGS.register_module('uniform')
def uniform(sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """1 (the paper's distillation and training)."""
    return torch.ones_like(sigma)


@WEIGHTINGS.register_module('snr')
def snr(sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """The signal-to-noise ratio sigma^-2."""
    return sigma**-2


@WEIGHTINGS.register_module('snr+1')
def snr_plus_one(sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Salimans & Ho (arXiv:2202.00512): sigma^-2 + 1."""
    return sigma**-2 + 1


@WEIGHTINGS.register_module('karras')
def karras(sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """EDM (arXiv:2206.00364, table 1): sigma^-2 + sigma_data^-2."""
    return sigma**-2 + sigma_data**-2


@WEIGHTINGS.register_module('truncated-snr')
def truncated_snr(sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Salimans & Ho (arXiv:2202.00512): max(sigma^-2, 1)."""
    return (sigma**-2).clamp(min=1)


@WEIGHTINGS.register_module('inverse-gap')
class InverseGap:
    """iCT and ECT (arXiv:2310.14189, section 3.1): 1 / (sigma - next_sigma).

    Args:
        power: Of the weight: less than 1 gives much noise a larger share of the gradient, on which
            one-step samples depend; 0 is 'uniform'.
    """

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def __call__(
        self, sigma: torch.Tensor, next_sigma: torch.Tensor, sigma_data: float
    ) -> torch.Tensor:
        """The weights, (N,)."""
        return (sigma - next_sigma) ** -self.power
