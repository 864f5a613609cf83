"""Samplers by indices into a grid of noise levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..diffusion.samplers import MultistepSampler
from ..diffusion.schedules import karras_sigmas
from ..models.denoiser import KarrasDenoiser
from ..registry import DIFFUSION_SAMPLERS

_USUAL = dict(sigma_min=0.002, sigma_max=80.0, rho=7.0)
_OTHER_SETTINGS = (*_USUAL, 'clip_denoised')


@dataclass(frozen=True)
class LevelGrid:
    """The Karras grid that the ``ts`` of multistep samplers count.

    Attributes:
        num_scales: Its levels.
        settings: Further settings of the samplers, such as ``rho`` where it is not the usual one.
    """

    num_scales: int
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls, own: Mapping[str, Any], denoiser: KarrasDenoiser, num_scales: int | None = None
    ) -> 'LevelGrid':
        """The grid of a model.

        Args:
            own: Config of the model's own sampler. Of a multistep sampler its settings hold.
            denoiser: Says the range of levels where ``own`` is another sampler.
            num_scales: Default: what the ``ts`` of ``own`` count, or 40.
        """
        if own['type'] == MultistepSampler.__name__:
            settings = {key: own[key] for key in _OTHER_SETTINGS if key in own}
            if num_scales is None and 'ts' in own:
                num_scales = own.get('num_scales')
        else:
            levels = {key: getattr(denoiser, key) for key in _USUAL}
            settings = {key: value for key, value in levels.items() if value != _USUAL[key]}
        return cls(40 if num_scales is None else num_scales, settings)

    @property
    def levels(self) -> list[float]:
        """The noise levels, descending."""
        given = {key: self.settings.get(key, usual) for key, usual in _USUAL.items()}
        return karras_sigmas(self.num_scales, **given).tolist()

    def sampler(self, ts: Sequence[int]) -> dict[str, Any]:
        """The config of the sampler with these indices."""
        settings = dict(ts=tuple(ts), num_scales=self.num_scales, **self.settings)
        return dict(type=MultistepSampler.__name__, **settings)


def own_sampler(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the sampler in the config of a model."""
    own = model.get('sampler') or 'OnestepSampler'
    return dict(type=own) if isinstance(own, str) else dict(own)


def num_evaluations(sampler: Mapping[str, Any]) -> int:
    """Network evaluations an image of a sampler by its config."""
    return DIFFUSION_SAMPLERS.build(dict(sampler)).num_evaluations
