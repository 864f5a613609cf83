"""What a denoiser computes with."""

from .adm_unet import ADMUNet
from .base import Network, check_network

__all__ = ['ADMUNet', 'Network', 'check_network']
