"""diffusers' ConsistencyModelPipeline: its settings for a model of ours, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..diffusion.samplers import DiffusionSampler, MultistepSampler, OnestepSampler
from ..errors import InputError
from .diffusers_layout import network_config

SCHEDULER = 'CMStochasticIterativeScheduler'
# Levels over the whole range of noise, at which two parameterizations are compared.
_LEVELS = (0.002, 0.01, 0.3, 0.5, 2.0, 80.0)
# Relative, of the levels and of the noise that is added: a thousandth of a grey level.
_TOLERANCE = 1e-6
_MOST_SCALES = 100_000


@dataclass(frozen=True)
class PipelineSettings:
    """With which a pipeline draws the pictures of our denoiser and sampler.

    Attributes:
        scheduler: What its ``scheduler_config.json`` says.
        arguments: Of the call of the pipeline.
        said: What is drawn by that call, for a reader.
    """

    scheduler: dict[str, Any]
    arguments: str
    said: str


def pipeline_settings(
    denoiser: nn.Module, sampler: DiffusionSampler, num_scales: int = 40
) -> PipelineSettings:
    """Find the pipeline's settings.

    Its scheduler has the scalings of the consistency parameterization, which with
    ``sigma_min=0`` are EDM's. Its ``timesteps`` count a grid down to that ``sigma_min``, so that
    one is searched which has the sampler's levels.

    Args:
        denoiser: The ``KarrasDenoiser``, on any device.
        sampler: What is to be drawn by. The pipeline takes consistency steps alone: for any other
            than Onestep- and MultistepSampler the settings are those of one step.
        num_scales: Levels of the grid, if the sampler's are among them.

    Raises:
        InputError: The scheduler lacks the denoiser's scalings.
    """
    sigma_min, sampler = _sigma_min(denoiser), sampler.within(denoiser)
    said = ''
    if not isinstance(sampler, MultistepSampler | OnestepSampler):
        said = f'; it takes consistency steps alone, and knows no {type(sampler).__name__}'
        sampler = OnestepSampler(sigma_max=sampler.sigma_max, clip_denoised=sampler.clip_denoised)
    levels = getattr(sampler, 'sigmas', (sampler.sigma_max,))
    scheduler = dict(
        sigma_min=sigma_min,
        sigma_max=levels[0],
        sigma_data=denoiser.sigma_data,
        s_noise=1.0,
        rho=denoiser.rho,
        clip_denoised=sampler.clip_denoised,
    )
    arguments = 'num_inference_steps=1'
    if len(levels) > 1:
        variance = np.square(levels) - sampler.sigma_min**2
        error, num_scales, steps = _find_grid(levels, variance, num_scales, scheduler)
        arguments = f'num_inference_steps=None, timesteps={steps[::-1]}'
        if error > _TOLERANCE:
            said = f' (but for {error:.0e} of its noise levels)'
    said = f'pipeline({arguments}) draws what {sampler!r} draws here{said}'
    return PipelineSettings(dict(num_train_timesteps=num_scales, **scheduler), arguments, said)


def _sigma_min(denoiser: nn.Module) -> float:
    """The scheduler's sigma_min, which gives it the scalings of the denoiser."""
    if denoiser.c_noise != 'adm':
        raise InputError(
            f"ConsistencyModelPipeline tells its network 250 ln sigma; this model's wants c_noise "
            f'{denoiser.c_noise!r}: it cannot be written for diffusers.'
        )
    given, data = denoiser.parameterization, denoiser.sigma_data
    sigma = torch.tensor(_LEVELS, dtype=torch.float64, device='cpu')
    norm = (sigma**2 + data**2).sqrt()
    for least in (denoiser.sigma_min, 0.0):
        expected = dict(
            c_skip=data**2 / ((sigma - least) ** 2 + data**2),
            c_out=(sigma - least) * data / norm,
            c_in=1 / norm,
        )
        if all(
            torch.allclose(getattr(given, name)(sigma), values, rtol=1e-5, atol=1e-8)
            for name, values in expected.items()
        ):
            return least
    kind = type(given).__name__.removesuffix('Parameterization')
    raise InputError(
        f'ConsistencyModelPipeline knows the parameterizations consistency and edm; this '
        f"model's is {kind}: it cannot be written for diffusers."
    )


def _find_grid(
    levels: Sequence[float], variance: np.ndarray, num_scales: int, scheduler: Mapping[str, Any]
) -> tuple[float, int, list[int]]:
    """Error, size and indices of the first grid that has the levels, or of the nearest."""
    sigma_min, rho = scheduler['sigma_min'], scheduler['rho']
    high, low = scheduler['sigma_max'] ** (1 / rho), sigma_min ** (1 / rho)
    counts = np.array([num_scales, *range(2, _MOST_SCALES)])
    shares = (high - np.power(levels, 1 / rho)[:, None]) / (high - low)
    steps = np.rint(shares * (counts - 1))
    grid = (high + steps / (counts - 1) * (low - high)) ** rho
    noise = np.sqrt((grid**2 - sigma_min**2).clip(0) / variance[:, None])
    ratios = np.concatenate([grid / np.array(levels)[:, None], noise])
    errors = abs(ratios - 1).max(0)
    best = np.argmin(errors.clip(_TOLERANCE))  # the first of those that do
    return errors[best], int(counts[best]), steps[:, best].astype(int).tolist()


def model_config(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config for sampling of a pipeline's folder.

    The sampler is the pipeline's own default, one step, and knows the grid that its ``timesteps``
    count.

    Args:
        unet: Its ``unet/config.json``.
        scheduler: Its ``scheduler/scheduler_config.json``.

    Returns:
        None where the scheduler is not that of consistency models, or adds other noise.
    """
    if scheduler.get('_class_name') != SCHEDULER or scheduler.get('s_noise', 1.0) != 1:
        return None
    sigma_min, count = float(scheduler['sigma_min']), int(scheduler['num_train_timesteps'])
    shared = {name: float(scheduler[name]) for name in ('sigma_max', 'rho')}
    denoiser = dict(
        type='KarrasDenoiser',
        parameterization='consistency' if sigma_min else 'edm',
        sigma_data=float(scheduler['sigma_data']),
        **({'sigma_min': sigma_min} if sigma_min else {}),
        **shared,
        network=network_config(unet),
    )
    sampler = dict(
        type='MultistepSampler',
        ts=(0, count - 1),
        num_scales=count,
        sigma_min=sigma_min,
        **shared,
        clip_denoised=bool(scheduler['clip_denoised']),
    )
    return dict(type='ConsistencyModel', denoiser=denoiser, sampler=sampler)
