"""Samplers by indices into a grid of noise levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..diffusion.samplers import MultistepSampler
from ..diffusion.schedules import NoiseRange
from ..models.denoiser import KarrasDenoiser
from ..registry import DIFFUSION_SAMPLERS


@dataclass(frozen=True)
class LevelGrid:
    """The Karras grid that the ``ts`` of multistep samplers count.

    Attributes:
        num_scales: Its levels.
        settings: What the samplers have beside ``ts`` and ``num_scales``.
    """

    num_scales: int
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, own: Mapping[str, Any], num_scales: int | None = None) -> 'LevelGrid':
        """The grid of a model.

        Args:
            own: Config of the model's own sampler. Of a multistep sampler its settings hold.
            num_scales: Default: what the ``ts`` of ``own`` count, or 40.
        """
        if own['type'] != MultistepSampler.__name__:
            return cls(num_scales or 40, {})
        if 'ts' in own:
            num_scales = num_scales or own.get('num_scales')
        levels = ('type', 'ts', 'sigmas', 'num_scales')
        settings = {key: value for key, value in own.items() if key not in levels}
        return cls(num_scales or 40, settings)

    def levels(self, denoiser: KarrasDenoiser) -> list[float]:
        """The noise levels, descending."""
        names = ('sigma_min', 'sigma_max', 'rho')
        given = {name: self.settings[name] for name in names if name in self.settings}
        return NoiseRange.of(denoiser).narrowed(**given).grid(self.num_scales).tolist()

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
