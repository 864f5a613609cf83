"""The one object that opens a checkpoint, whatever it is, and knows what is in it."""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from ..errors import InputError
from .configs import config_inside, denoiser_settings, refuse_foreign_names, sampling_config
from .layouts import average_key, check_settings, fit_state_dict, select_weights
from .reading import looks_like_weights, read_checkpoint
from .released import find_released

# By which a file that is damaged, or not there, is still taken for weights.
_SUFFIXES = ('.pth', '.pt', '.pkl', '.msgpack', '.safetensors')


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path names weights and no config: a folder, a released name, or a file of them.

    Of a file the name or the first bytes are looked at.
    """
    path = Path(path)
    if path.suffix in _SUFFIXES or path.is_dir() or find_released(path) is not None:
        return True
    return path.is_file() and looks_like_weights(path)


class Checkpoint:
    """A file of weights, a folder of diffusers, an address, or a released model by its name.

    It is read once, when something of it is asked for.

    Args:
        source: As of :func:`~mmagic_cm.checkpoints.read_checkpoint`.
        map_location: 'cpu': weights are mapped from the file, so copy them soon, for who writes
            the file anew kills the process. 'meta': names and shapes alone, which may be kept.

    Attributes:
        released: The released model that it is, as far as its name says; nothing in the file does.
    """

    def __init__(self, source: str | Path, map_location: str = 'cpu') -> None:
        self.source = source
        self.released = find_released(source)
        self._map_location = map_location

    def __str__(self) -> str:
        return str(self.source)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What is in the file, see :func:`~mmagic_cm.checkpoints.read_checkpoint`."""
        return read_checkpoint(self.source, self._map_location, mmap=self._map_location == 'cpu')

    @property
    def meta(self) -> Mapping:
        """What a run has noted beside the weights."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, Mapping) else {}

    @property
    def emas(self) -> dict[float | str, Mapping[str, torch.Tensor]]:
        """The averages of a run's weights by their rate, or 'sigma_rel=0.05'."""
        return {
            average_key(name): average for name, average in self.content.get('emas', {}).items()
        }

    @cached_property
    def config(self) -> Config | None:
        """The whole config of the model, to be looked at: that in the file, or the released one."""
        inside = None
        if self.released is None or Path(self.source).exists():
            inside = config_inside(self.content, self.source)
        return self.released.config() if inside is None and self.released else inside

    def settings(self) -> dict[str, str]:
        """How its denoiser is told the noise level and scaled, as far as the file says it.

        ``c_noise`` and ``parameterization``, see :class:`~mmagic_cm.models.KarrasDenoiser`.
        """
        try:
            return {} if self.config is None else denoiser_settings(self.config)
        except InputError:  # a config that cannot be read says nothing, and another one may do
            return {}

    def sampling_config(self) -> Config:
        """The config for sampling from it, safe to build, whose ``load_from`` names it.

        Raises:
            InputError: It does not say what model it is of, or names what is not ours.
        """
        if self.config is None:
            raise InputError(f'{self} holds no config: give a config file or a released name.')
        cfg = sampling_config(self.config)
        refuse_foreign_names(cfg, self.source)
        cfg.load_from = str(self.source)
        return cfg

    def weights(self, ema: str | float | None = 'auto') -> OrderedDict:
        """A state dict by the names in the file, see :func:`.select_weights`."""
        return select_weights(self.content, ema)

    def fit(self, model: nn.Module, ema: str | float | None = 'auto') -> OrderedDict:
        """A state dict by the model's names.

        Args:
            model: Has a :class:`~mmagic_cm.models.KarrasDenoiser` as ``denoiser``; on any device.
            ema: As of :func:`.select_weights`.

        Raises:
            InputError: It cannot be read, has no such average, or is of another model. (Scalings
                may differ: a consistency model starts from EDM's weights.)
        """
        weights = self.weights(ema)
        try:
            fit_state_dict(weights, model.state_dict())
            check_settings(weights._metadata.get('', {}), model.denoiser.network)
            self._check_c_noise(model.denoiser.c_noise)
        except InputError as error:
            raise InputError(f'{self}: {error}') from error
        return weights

    def _check_c_noise(self, given: str) -> None:
        said = self.settings().get('c_noise', given)
        if said != given:
            raise InputError(
                f'its network is told the noise level by c_noise {said!r}, and this model says '
                f'{given!r}.'
            )
