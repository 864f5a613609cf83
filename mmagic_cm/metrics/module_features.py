"""Features from any network."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError, doing
from ..io.digests import file_digest
from ..io.files import existing_file
from ..registry import FEATURE_EXTRACTORS
from .features import NetworkFeatures, weights_digest


@FEATURE_EXTRACTORS.register_module()
class ModuleFeatures(NetworkFeatures):
    """Any network: a TorchScript file such as DINOv2's, or a torch module.

    A TorchScript file is a program, and using it runs that program: torch unpickles nothing from
    it, but use only files whose origin you trust.

    Args:
        module: Path of a TorchScript file; or a module, which is put into evaluation mode. It maps
            float32 (N, C, S, S) to (N, D) or (N, D, 1, 1).
        input_size: Side S in pixels to which pictures are resized, whatever their shape, as Pillow
            does it (bicubic, antialiased, rounded to levels). None: they come as they are.
        mean: Subtracted from the values in [0, 1], for each of the C channels; of 1 or 3. Gray
            pictures are repeated for 3. Defaults to ImageNet's.
        std: Then divided by.
    """

    def __init__(
        self,
        module: str | Path | nn.Module,
        input_size: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.module = module
        self.size = input_size
        self.mean = tuple(mean)
        self.std = tuple(std)

    def _read(self) -> tuple[nn.Module, str]:
        network = self.module
        if isinstance(network, nn.Module):
            name, digest = type(network).__name__, weights_digest(network)
        else:
            path = existing_file(network, 'TorchScript file')
            with doing(f'reading the TorchScript file {path}'):
                network = torch.jit.load(path, map_location='cpu')
            name, digest = f'TorchScript {network.original_name}', file_digest(path)[:16]
        size = f'resized to {self.size} by bicubic' if self.size else 'not resized'
        return network, (
            f'ModuleFeatures: {name}, weights {digest}, {size}, mean {self.mean}, std {self.std}'
        )

    def _compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.network(self._prepare(images))
        if not isinstance(found, torch.Tensor) or found.flatten(1).shape != found.shape[:2]:
            what = tuple(found.shape) if torch.is_tensor(found) else type(found).__name__
            raise InputError(
                f'ModuleFeatures: the module gives {what} of {len(images)} images, not (N, D): '
                f'wrap it in a module that does.'
            )
        return {'features': found.flatten(1)}

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 (N, C, S, S), normalized."""
        images = images.expand(-1, len(self.mean), -1, -1).float()
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            # Pillow's order: first the width, then the height, each rounded.
            for size in ((images.shape[2], self.size), (self.size, self.size)):
                images = F.interpolate(images, size=size, mode='bicubic', antialias=True)
                images = images.clamp(0, 255).round()
        mean, std = (images.new_tensor(x).view(-1, 1, 1) for x in (self.mean, self.std))
        return (images / 255 - mean) / std
