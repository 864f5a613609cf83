"""What a denoiser computes with."""

from .adm_unet import ADMUNet

__all__ = ['ADMUNet']
