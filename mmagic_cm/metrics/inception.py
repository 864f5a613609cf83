"""The Inception network of 2015 that published figures rest on."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoints import read_checkpoint
from ..errors import InputError, doing
from ..io.cached_file import CachedFile, cache_folder
from ..io.files import existing_file
from ..registry import FEATURE_EXTRACTORS
from .features import NetworkFeatures, weights_digest

# Of mixed_6/conv, as in the evaluator of guided-diffusion: 7 channels of 17 x 17 are 2,023.
_SPATIAL_CHANNELS = 7


@FEATURE_EXTRACTORS.register_module()
class InceptionFeatures(NetworkFeatures):
    """TensorFlow's Inception-V3 of 2015-12-05, in torch-fidelity's port.

    Pictures of any size are resized to 299 x 299 as TensorFlow 1 did it (bilinear, without
    antialiasing). The constructor reads and downloads nothing: :meth:`fetch` downloads, the first
    use reads.

    Gives 'features' (N, 2048), the last pooling; 'spatial' (N, 2023), the first 7 channels of the
    layer ``mixed_6/conv`` in H, W, C order; 'logits' (N, 1008), without the bias of the last layer.

    Args:
        weights: 'cache' (torch-fidelity's file in the cache, where :meth:`fetch` puts it) or a
            copy of that file: a state dict with torch-fidelity's names.

    Example:
        >>> extractor = InceptionFeatures()
        >>> extractor.fetch()
        >>> extractor(images)['features']  # (N, 2048)
    """

    names = ('features', 'spatial', 'logits')

    def __init__(self, weights: str | Path = 'cache') -> None:
        super().__init__()
        self.weights = weights

    @property
    def file(self) -> CachedFile:
        """The one of torch-fidelity."""
        url = _url()
        name = url.rsplit('/', 1)[-1]
        return CachedFile(
            'The network of InceptionFeatures',
            url,
            cache_folder() / name,
            name.rsplit('-', 1)[-1].removesuffix('.pth'),
            'run `python demo/download_checkpoints.py --inception`, name a copy by weights=FILE',
        )

    def fetch(self) -> Path:
        """Download the weights into the cache (91 MB) unless they are there.

        One process of each machine downloads, the others wait for it.

        Returns:
            The file of weights.

        Raises:
            InputError: They cannot be downloaded, or ``weights`` names a file that is not there.
        """
        return self.file.fetch() if self.weights == 'cache' else self.path

    @property
    def path(self) -> Path:
        """The file of weights, which is there.

        Raises:
            InputError: It is not.
        """
        if self.weights == 'cache':
            return self.file.find()
        return existing_file(self.weights, 'file of weights')

    def _read(self) -> tuple[nn.Module, str]:
        path = self.path
        weights = read_checkpoint(path)
        network = _build(weights.get('state_dict', weights), path)
        return network, (
            f'InceptionFeatures: torch-fidelity inception-v3-compat, weights '
            f'{weights_digest(network)}, resized to 299 as TensorFlow 1 does'
        )

    def _compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        network = self.network
        spatial: list[torch.Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            spatial.append(output[:, :_SPATIAL_CHANNELS])

        handle = network.Mixed_6d.branch1x1.register_forward_hook(keep)
        try:
            features, logits = network(images.expand(-1, 3, -1, -1))
        finally:
            handle.remove()
        maps = spatial[0].permute(0, 2, 3, 1).flatten(1)  # TensorFlow's order
        return {'features': features, 'spatial': maps, 'logits': logits}


def _fidelity() -> Any:
    """torch-fidelity's module of the network; it takes seconds to import."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise InputError(
            f'InceptionFeatures needs torch-fidelity: pip install mmagic-cm[eval] ({error}).'
        ) from error
    return feature_extractor_inceptionv3


def _url() -> str:
    return _fidelity().URL_INCEPTION_V3


def _build(weights: dict[str, torch.Tensor], path: Path) -> nn.Module:
    # Its constructor reads a file with torch.load, and unpickles what is in it: it gets one that
    # is written here, from weights that were read safely.
    file = io.BytesIO()
    torch.save(dict(weights), file)
    file.seek(0)
    with doing(f'loading {path} as the Inception of torch-fidelity'):
        return _fidelity().FeatureExtractorInceptionV3(
            'inception-v3-compat',
            ['2048', 'logits_unbiased'],
            feature_extractor_weights_path=file,
        )
