"""LPIPS (arXiv:1801.03924): the distance of two images in the features of a VGG16."""

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoints import read_checkpoint
from ..checkpoints.layouts import fit_state_dict
from ..errors import InputError
from ..io.cached_file import CachedFile
from ..io.files import existing_file
from ..registry import DISTANCES

POOLING = {'max': nn.MaxPool2d, 'avg': nn.AvgPool2d}
# Four poolings halve the image before the last features.
_SMALLEST = 16


@DISTANCES.register_module('lpips')
class LPIPS(nn.Module):
    """Squared distances of unit-length VGG16 features, weighted, and summed over five layers.

    Frozen and always in evaluation mode; gradients flow to the images. The VGG16 follows the
    autocast; features are normalized and compared in float32. The constructor reads and downloads
    nothing: :meth:`fetch` downloads, :meth:`load` (or the first call) reads.

    Args:
        weights: Of the VGG16: 'cache' (torchvision's ``VGG16_Weights.IMAGENET1K_V1`` in torch's
            cache, where :meth:`fetch` puts them), or a file with torchvision's names
            ``features.N.*``.
        pooling: 'max', as the ``lpips`` package and the weights of its linear layers have it, or
            'avg', as the code of the paper on consistency models has it.
        resize: Side in pixels to which images of less than 256 are bilinearly resized first, as
            that code does; None: none are.

    Example:
        >>> distance = LPIPS()
        >>> distance.fetch()
        >>> distance(a, b)  # (N,)
    """

    def __init__(
        self, weights: str | Path = 'cache', pooling: str = 'max', resize: int | None = 224
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise InputError(f"LPIPS: pooling must be 'max' or 'avg', not {pooling!r}.")
        if resize is not None and resize < _SMALLEST:
            raise InputError(f'LPIPS: resize must be None or {_SMALLEST} and more, not {resize}.')
        self.weights = weights
        self.pooling = pooling
        self.resize = resize
        self.network: nn.Module | None = None

    @property
    def path(self) -> Path:
        """The file of weights of the VGG16, which is there.

        Raises:
            InputError: It is not.
        """
        if self.weights == 'cache':
            return _vgg16().find()
        return existing_file(self.weights, 'file of weights')

    def fetch(self) -> Path:
        """Download the weights into torch's cache (528 MB) unless they are there.

        One process of each machine downloads, the others wait for it.

        Returns:
            The file of weights.

        Raises:
            InputError: They cannot be downloaded; or ``weights`` names a file that is not there.
        """
        return _vgg16().fetch() if self.weights == 'cache' else self.path

    def load(self) -> None:
        """Read the weights; again does nothing.

        Raises:
            InputError: The file is missing, cannot be read, or is of another network.
        """
        if self.network is not None:
            return
        path = self.path
        # The first call may come where tensors are made elsewhere, or are of no use in training.
        with torch.device('cpu'), torch.inference_mode(False):
            network, linear = _build()
            features = {
                name: tensor
                for name, tensor in read_checkpoint(path).items()
                if not name.startswith('classifier.')
            }
            expected = {_torchvision_name(k): v for k, v in network.net.state_dict().items()}
            try:
                fit_state_dict(features, expected)
            except InputError as error:
                raise InputError(f'{path} is no VGG16 of torchvision: {error}') from error
            weights = {k: features[_torchvision_name(k)] for k in network.net.state_dict()}
            network.net.load_state_dict(weights, assign=True)
            network.load_state_dict(linear, assign=True, strict=False)
            network.float().to(memory_format=torch.channels_last).requires_grad_(False).eval()
        for block in network.net.children():
            for name, layer in block.named_children():
                if isinstance(layer, nn.MaxPool2d):
                    block.register_module(name, POOLING[self.pooling](2, 2))
        self.network = network.eval()

    def train(self, mode: bool = True) -> 'LPIPS':
        """Stay in evaluation mode, without the dropout of the linear layers."""
        return super().train(False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The distances of two batches.

        Args:
            a: Images, (N, 3, H, W) or (N, 1, H, W), in [-1, 1].
            b: Images like ``a``.

        Returns:
            (N,) float32.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] not in (1, 3):
            raise InputError(
                f'LPIPS compares two batches (N, 3, H, W) or (N, 1, H, W), not {tuple(a.shape)} '
                f'and {tuple(b.shape)}.'
            )
        if self.resize is None and min(a.shape[2:]) < _SMALLEST:
            raise InputError(
                f'LPIPS: images of {a.shape[2]} x {a.shape[3]} pixels are too small for a VGG16; '
                f'set resize=224.'
            )
        self.load()
        network = self.network.to(a.device)
        pairs = zip(self._features(a), self._features(b), network.lins, strict=True)
        with torch.autocast(a.device.type, enabled=False):
            distances = [linear((x - y).square()).mean((1, 2, 3)) for x, y, linear in pairs]
        return torch.stack(distances).sum(0)

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        images = images.float().expand(-1, 3, -1, -1)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.resize is not None and images.shape[-1] < 256:
            images = F.interpolate(images, size=(self.resize, self.resize), mode='bilinear')
        layers = self.network.net(self.network.scaling_layer(images))
        # The package's own normalisation has no gradient where all channels are 0: it gives NaN.
        return [F.normalize(layer.float(), eps=1e-10) for layer in layers]


def _vgg16() -> CachedFile:
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / 'checkpoints' / url.rsplit('/', 1)[-1]
    # torchvision's file names end in the beginning of the file's hash.
    digest = path.stem.rsplit('-', 1)[-1]
    return CachedFile('The VGG16 of LPIPS', url, path, digest, 'name a copy by weights=FILE')


def _torchvision_name(name: str) -> str:
    """The ``lpips`` package cuts VGG16 into slices: slice2.5.weight is features.5.weight."""
    return f'features.{name.split(".", 1)[1]}'


def _build() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The package's network, without weights, and its own linear weights (version 0.1)."""
    import lpips  # takes 2 s, for scipy and torchvision

    with torch.device('meta'), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it calls torchvision in an old way
        network = lpips.LPIPS(net='vgg', pretrained=False, pnet_rand=True, verbose=False)
    linear = read_checkpoint(Path(lpips.__file__).parent / 'weights/v0.1/vgg.pth')
    # The package holds each layer by two names.
    for name in list(linear):
        linear[f'lins.{name.removeprefix("lin")}'] = linear[name]
    return network, linear
