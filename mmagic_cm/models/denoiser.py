"""The denoiser D(x, sigma): preconditioning around a network (eq. 5; arXiv:2206.00364, eq. 7)."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from ..diffusion.solvers import expand
from ..errors import InputError, closest
from ..registry import MODELS, PARAMETERIZATIONS, resolve


class Parameterization(Protocol):
    """The three scalings of D(x) = c_skip x + c_out F(c_in x, c_noise); sigma (N,) -> (N,)."""

    def c_skip(self, sigma: torch.Tensor) -> torch.Tensor: ...  # noqa: D102

    def c_out(self, sigma: torch.Tensor) -> torch.Tensor: ...  # noqa: D102

    def c_in(self, sigma: torch.Tensor) -> torch.Tensor: ...  # noqa: D102


@PARAMETERIZATIONS.register_module('edm')
class EDMParameterization:
    """EDM (arXiv:2206.00364, table 1): D(x, 0) = x.

    Args:
        sigma_data: Standard deviation of the data.
        sigma_min: Not used here; every parameterization is built with both.
    """

    def __init__(self, sigma_data: float = 0.5, sigma_min: float = 0.002) -> None:
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min

    def c_skip(self, sigma: torch.Tensor) -> torch.Tensor:
        """sigma_data^2 / (sigma^2 + sigma_data^2)."""
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: torch.Tensor) -> torch.Tensor:
        """Sigma sigma_data / sqrt(sigma^2 + sigma_data^2)."""
        return sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def c_in(self, sigma: torch.Tensor) -> torch.Tensor:
        """1 / sqrt(sigma^2 + sigma_data^2)."""
        return (sigma**2 + self.sigma_data**2).rsqrt()


@PARAMETERIZATIONS.register_module('consistency')
class ConsistencyParameterization(EDMParameterization):
    """The paper's (appendix C): D(x, sigma_min) = x, the boundary condition of eq. 4."""

    def c_skip(self, sigma: torch.Tensor) -> torch.Tensor:
        """sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2)."""
        return self.sigma_data**2 / ((sigma - self.sigma_min) ** 2 + self.sigma_data**2)

    def c_out(self, sigma: torch.Tensor) -> torch.Tensor:
        """(sigma - sigma_min) sigma_data / sqrt(sigma^2 + sigma_data^2)."""
        shifted = sigma - self.sigma_min
        return shifted * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()


def _log(sigma: torch.Tensor) -> torch.Tensor:
    # The smallest normal float: sigma = 0 stays finite, all other levels stay exact.
    return sigma.clamp(min=torch.finfo(torch.float32).tiny).log()


# How networks want to be told the noise level, from sigma (N,) and sigma_data: the released ADM
# networks, EDM (arXiv:2206.00364, table 1), continuous-time models (arXiv:2410.11081, section 3).
C_NOISE = {
    'adm': lambda sigma, sigma_data: 250 * _log(sigma),
    'edm': lambda sigma, sigma_data: _log(sigma) / 4,
    'trigflow': lambda sigma, sigma_data: torch.atan(sigma / sigma_data),
}


@MODELS.register_module()
class KarrasDenoiser(nn.Module):
    """D(x, sigma, labels), the waist of the hourglass: objectives train it, samplers consume it.

    Args:
        network: A config, a module or a callable: F(x, c_noise[, labels]), see
            :class:`~mmagic_cm.networks.Network`.
        parameterization: 'consistency', 'edm', or an object with c_skip, c_out and c_in.
        c_noise: How the network is told the noise level, one of ``C_NOISE``; default: as it says
            itself, or else 'adm'.
        sigma_data: Standard deviation of the data. This and the next three the denoiser owns:
            objectives, samplers and editing ask it.
        sigma_min: Lowest noise level.
        sigma_max: Highest noise level.
        rho: Curvature of the grid of levels.

    Raises:
        InputError: One of these four makes no sense, or ``c_noise`` is not known.
    """

    def __init__(
        self,
        network: dict | nn.Module | Callable,
        parameterization: str | dict | Parameterization = 'consistency',
        c_noise: str | None = None,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
    ) -> None:
        super().__init__()
        ordered = 0 <= sigma_min < sigma_max < math.inf
        if not (ordered and 0 < sigma_data < math.inf and 0 < rho < math.inf):
            raise InputError(
                f'A denoiser needs 0 <= sigma_min < sigma_max, 0 < sigma_data and 0 < rho, all '
                f'finite, not {sigma_min}, {sigma_max}, {sigma_data} and {rho}.'
            )
        self.network = MODELS.build(network) if isinstance(network, dict) else network
        self.c_noise = c_noise or getattr(self.network, 'c_noise', 'adm')
        if self.c_noise not in C_NOISE:
            raise InputError(f'{self.c_noise!r} is no c_noise.{closest(self.c_noise, C_NOISE)}')
        if isinstance(parameterization, str):
            parameterization = dict(
                type=parameterization, sigma_data=sigma_data, sigma_min=sigma_min
            )
        self.parameterization = resolve(PARAMETERIZATIONS, parameterization)
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.rho = rho

    def forward(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        labels: torch.Tensor | None = None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """Denoise.

        Args:
            x: (N, C, H, W), image plus sigma times standard normal noise.
            sigma: (N,) noise levels.
            labels: (N,) int64 class labels of a conditional network.
            **conditions: What the network is told beside, by name, each (N, ...).

        Returns:
            float32 (N, C, H, W), the denoised images.
        """
        scalings = self.parameterization
        # x, sigma and the scalings stay in float32, whatever the network computes in.
        x, sigma = x.float(), sigma.float()
        classes = () if labels is None else (labels,)
        c_noise = C_NOISE[self.c_noise](sigma, self.sigma_data)
        output = self.network(x * expand(scalings.c_in(sigma), x), c_noise, *classes, **conditions)
        return x * expand(scalings.c_skip(sigma), x) + output.float() * expand(
            scalings.c_out(sigma), x
        )
