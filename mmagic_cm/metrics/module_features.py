"""Features from any network."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoints import read_checkpoint
from ..errors import InputError, doing
from ..io.digests import file_digest
from ..io.files import existing_file
from ..registry import FEATURE_EXTRACTORS, MODELS, resolve
from .features import NetworkFeatures, weights_digest


@FEATURE_EXTRACTORS.register_module()
class ModuleFeatures(NetworkFeatures):
    """Any network: one of a config, a torch module, or a TorchScript file such as DINOv2's.

    A TorchScript file is a program, and using it runs that program: torch unpickles nothing from
    it, but use only files whose origin you trust.

    Args:
        module: Path of a TorchScript file; or a config of the registry MODELS; or a module, which
            is put into evaluation mode. It maps float32 (N, C, S, S) to (N, D) or (N, D, 1, 1).
        checkpoint: File of weights for a config or a module.
        input_size: Side S in pixels to which pictures are resized, whatever their shape. None:
            they come as they are.
        mean: Subtracted from the values in [0, 1], for each of the C channels; of 1 or 3. Gray
            pictures are repeated for 3. Defaults to ImageNet's.
        std: Then divided by.
        resize: 'bicubic' or 'bilinear', antialiased like Pillow's and rounded to levels.

    Raises:
        InputError: ``mean`` and ``std`` do not fit, ``resize`` is unknown, or ``checkpoint``
            comes with a TorchScript file.
    """

    def __init__(
        self,
        module: str | Path | dict | nn.Module,
        checkpoint: str | Path | None = None,
        input_size: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        resize: str = 'bicubic',
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) not in (1, 3) or min(std) <= 0:
            raise InputError(
                f'ModuleFeatures: mean and std must be of 1 or of 3 channels and std positive, '
                f'not {tuple(mean)} and {tuple(std)}.'
            )
        if resize not in ('bicubic', 'bilinear'):
            raise InputError(
                f"ModuleFeatures: resize must be 'bicubic' or 'bilinear', not {resize!r}."
            )
        if input_size is not None and input_size < 1:
            raise InputError(f'ModuleFeatures: input_size must be at least 1, not {input_size}.')
        if checkpoint is not None and isinstance(module, str | Path):
            raise InputError(
                f'ModuleFeatures: the TorchScript file {module} has its own weights, leave '
                f'checkpoint out.'
            )
        self.module = module
        self.checkpoint = checkpoint
        self.size = input_size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.resize = resize

    def _read(self) -> tuple[nn.Module, str]:
        if isinstance(self.module, str | Path):
            network, name, digest = _load_torchscript(Path(self.module).expanduser())
        else:
            network = resolve(MODELS, self.module)
            if self.checkpoint is not None:
                weights = read_checkpoint(self.checkpoint)
                with doing(f'loading {self.checkpoint} into the feature extractor'):
                    network.load_state_dict(weights.get('state_dict', weights))
            name, digest = type(network).__name__, weights_digest(network)
        size = f'resized to {self.size} by {self.resize}' if self.size else 'not resized'
        return network, (
            f'ModuleFeatures: {name}, weights {digest}, {size}, mean {self.mean}, std {self.std}'
        )

    def _compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.network(self._prepare(images))
        if not isinstance(found, torch.Tensor):
            raise InputError(
                f'ModuleFeatures: the module gives a {type(found).__name__}, not a tensor: wrap '
                f'it in a module that picks one.'
            )
        features = found.flatten(1) if found.ndim == 4 and found.shape[2:] == (1, 1) else found
        if features.ndim != 2 or len(features) != len(images):
            raise InputError(
                f'ModuleFeatures: the module gives {tuple(found.shape)} of {len(images)} images, '
                f'not (N, D).'
            )
        return {'features': features}

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 (N, C, S, S), normalized."""
        channels = len(self.mean)
        if images.shape[1] > channels:
            raise InputError(
                'ModuleFeatures: the module takes gray images (mean and std are of one channel), '
                'not coloured ones.'
            )
        images = images.expand(-1, channels, -1, -1).float()
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            # Pillow's order: first the width, then the height, each rounded.
            for size in ((images.shape[2], self.size), (self.size, self.size)):
                images = F.interpolate(images, size=size, mode=self.resize, antialias=True)
                images = images.clamp(0, 255).round()
        mean, std = (images.new_tensor(x).view(-1, 1, 1) for x in (self.mean, self.std))
        return (images / 255 - mean) / std


def _load_torchscript(path: Path) -> tuple[nn.Module, str, str]:
    """The module in a file, its name, and the digest of the file."""
    existing_file(path, 'TorchScript file')
    with doing(f'reading the TorchScript file {path}'):
        network = torch.jit.load(path, map_location='cpu')
    return network, f'TorchScript {network.original_name}', file_digest(path)[:16]
