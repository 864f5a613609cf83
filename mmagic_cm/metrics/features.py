"""What metrics look at instead of pixels: feature extractors, and the features of a set."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..errors import InputError
from ..io.digests import tensors_digest
from ..io.images import to_unit_range
from ..registry import FEATURE_EXTRACTORS
from .arrays import as_tensor


class FeatureExtractor(ABC):
    """Turns pictures into vectors. Constructors read nothing; weights are read at first use.

    Attributes:
        names: What it gives; 'features' always. 'spatial' is for sFID and 'logits' for the
            Inception Score.
        size: Side in pixels to which it resizes the pictures by itself; None: its own business.
    """

    names: tuple[str, ...] = ('features',)
    size: int | None = None

    def __init__(self) -> None:
        self.device = torch.device('cpu')

    @property
    @abstractmethod
    def identity(self) -> str:
        """One line that names all that its numbers depend on: kind, weights, preprocessing."""

    @abstractmethod
    def _compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of uint8 (N, 3 or 1, H, W) on its device: (N, D) by name."""

    def to(self, device: str | torch.device) -> 'FeatureExtractor':
        """Compute on this device from here on."""
        self.device = torch.device(device)
        return self

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features of a batch, in float32 whatever the autocast and the TF32 settings are.

        Args:
            images: uint8 (N, 3, H, W) or (N, 1, H, W), 0..255, on any device.

        Returns:
            For each of ``names`` a float32 tensor (N, D) on the extractor's device.

        Raises:
            InputError: Another shape or type, or weights that cannot be read.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            kind = str(images.dtype).removeprefix('torch.')
            raise InputError(
                f'Features are of uint8 images (N, 3, H, W) or (N, 1, H, W) with values 0..255, '
                f'not of {kind} {tuple(images.shape)}: round them by images.to_uint8 first.'
            )
        images = images.to(self.device)
        with _full_precision(self.device):
            found = self._compute(images)
        return {name: found[name].float() for name in self.names}


class NetworkFeatures(FeatureExtractor):
    """What a network of files sees; they are read at first use."""

    def __init__(self) -> None:
        super().__init__()
        self._network: nn.Module | None = None
        self._identity = ''

    @abstractmethod
    def _read(self) -> tuple[nn.Module, str]:
        """The network on the CPU, and the extractor's identity."""

    def load(self) -> None:
        """Build the network and read its weights; again does nothing.

        Raises:
            InputError: A file of weights is missing or cannot be read.
            RuntimeError: It is of another network.
        """
        if self._network is None:
            # The first use may come where tensors are made elsewhere.
            with torch.device('cpu'), torch.inference_mode(False):
                network, self._identity = self._read()
            self._network = network.eval()

    @property
    def identity(self) -> str:
        """See :class:`FeatureExtractor`; reads the weights.

        Raises:
            InputError: As of :meth:`load`.
        """
        self.load()
        return self._identity

    @property
    def network(self) -> nn.Module:
        """The network, on the extractor's device."""
        self.load()
        return self._network.to(self.device)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32: features are to be the same on every device."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('highest')
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class Features:
    """Features of a set of images, by name, with the identity of what made them.

    ``len`` is the number of images; ``features['features']`` is an array.

    Args:
        arrays: (N, D) by name, N the same for all, in the same order of images.
        identity: Of the extractor.

    Attributes:
        arrays: float32.
        identity: As given.

    Raises:
        InputError: There are no images, or a feature is not finite: names the first image.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], identity: str) -> None:
        self.arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        self.identity = identity
        for array in self.arrays.values():
            as_tensor(array)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def extract(
    batches: Iterable[torch.Tensor],
    extractor: FeatureExtractor,
    progress: bool = False,
    total: int | None = None,
) -> Features:
    """The features of many images, which need not be in memory at once.

    Args:
        batches: uint8 (n, 3, H, W) or (n, 1, H, W); n may differ.
        extractor: Computes on the device that its ``to`` was given.
        progress: Show a bar.
        total: Number of images, for the bar.

    Raises:
        InputError: There are no images, they are not uint8, or features are not finite: names the
            first such image.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in extractor.names}
    with tqdm(total=total, unit='image', desc='features', disable=not progress) as bar:
        for batch in batches:
            for name, features in extractor(batch).items():
                parts[name].append(features.cpu().numpy())
            bar.update(len(batch))
    if not parts['features']:
        raise InputError('There are no images to judge.')
    arrays = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Features(arrays, extractor.identity)


def weights_digest(module: nn.Module) -> str:
    """Digest of a module: its layers as it prints them, its parameters and its buffers."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return tensors_digest(tensors, repr(module))


@FEATURE_EXTRACTORS.register_module()
class PixelFeatures(FeatureExtractor):
    """The pixels themselves, in [-1, 1], flattened in C, H, W order."""

    @property
    def identity(self) -> str:
        """See :class:`FeatureExtractor`."""
        return 'PixelFeatures: values in [-1, 1], order C, H, W'

    def _compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {'features': to_unit_range(images).flatten(1)}
