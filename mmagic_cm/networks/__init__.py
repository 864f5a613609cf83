"""What a denoiser computes with."""

from .adm_unet import ADMUNet
from .base import Network, check_network
from .song_unet import SongUNet

__all__ = ['ADMUNet', 'Network', 'SongUNet', 'check_network']
