"""The Inception network of 2015 that published figures rest on."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier
from torch import nn

from ..checkpoints import read_checkpoint
from ..checkpoints.released import cache_folder
from ..errors import InputError, doing
from ..io.download import download
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
    def path(self) -> Path:
        """The file of weights."""
        if self.weights != 'cache':
            return Path(self.weights).expanduser()
        return cache_folder() / _url().rsplit('/', 1)[-1]

    def fetch(self) -> None:
        """Download the weights into the cache (91 MB) unless they are there.

        One process of each machine downloads, the others wait for it.

        Raises:
            InputError: They cannot be downloaded, or ``weights`` names a file that is not there.
        """
        try:
            if self.weights == 'cache' and os.environ.get('LOCAL_RANK', '0') == '0':
                download(_url(), self.path, _check_hash)
        finally:
            barrier()
        self._check_path()

    def _read(self) -> tuple[nn.Module, str]:
        self._check_path()
        weights = read_checkpoint(self.path)
        network = _build(weights.get('state_dict', weights), self.path)
        return network, (
            f'InceptionFeatures: torch-fidelity inception-v3-compat, weights '
            f'{weights_digest(network)}, resized to 299 as TensorFlow 1 does'
        )

    def _check_path(self) -> None:
        if self.path.is_file():
            return
        if self.weights != 'cache':
            raise InputError(f'InceptionFeatures: there is no file of weights {self.path}.')
        raise InputError(
            f'InceptionFeatures needs weights that are not there yet: run `python '
            f'demo/download_checkpoints.py --inception`, or put {_url()} at {self.path}, or name '
            f'a copy by weights=FILE.'
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


def _check_hash(path: Path) -> None:
    """The name of the file ends in the beginning of its SHA-256."""
    beginning = _url().rsplit('-', 1)[-1].removesuffix('.pth')
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(beginning):
        raise InputError(
            f'{_url()} is not the file that it should be: its SHA-256 begins with '
            f'{found[: len(beginning)]} instead of {beginning}.'
        )


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
