"""Which sampler a user means: names, indices of the paper's code, timesteps of diffusers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import InputError, closest
from ..registry import DIFFUSION_SAMPLERS


def sampler_names() -> dict[str, str]:
    """What users may call the registered samplers: {'heun': 'HeunSampler', ...}."""
    DIFFUSION_SAMPLERS.import_from_location()
    return {
        registered.removesuffix('Sampler').lower(): registered
        for registered in DIFFUSION_SAMPLERS.module_dict
    }


def sampler_type(name: str) -> str:
    """The registered name of a sampler: 'heun', 'euler_ancestral', 'HeunSampler' -> 'HeunSampler'.

    Raises:
        InputError: There is no such sampler.
    """
    short = sampler_names()
    key = str(name).replace('_', '').lower().removesuffix('sampler')
    if key not in short:
        raise InputError(f'{name!r} is not a sampler.{closest(name, short)}')
    return short[key]


def choose_sampler(
    own: Mapping[str, Any] | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    ts: Sequence[int] | None = None,
    timesteps: Sequence[int] | None = None,
    num_scales: int | None = None,
) -> dict | None:
    """The config of a sampler, from what a user says about it.

    Args:
        own: Config of the model's own sampler. Its settings hold where the user names the same
            sampler and does not say otherwise.
        sampler: A name as :func:`sampler_type` takes it, or a config with such a name.
        ts: Of the multistep sampler: (0, 22, 39).
        timesteps: The same as diffusers has it: (22, 0).
        num_scales: Levels of the grid that they count. Default: those of the model's own sampler.

    Returns:
        A config; None, for the model's own sampler, where nothing was said.

    Raises:
        InputError: The settings contradict each other, or the number of scales is not known.
    """
    if sampler is None:
        sampler = {} if ts is timesteps is None else dict(type='MultistepSampler')
    given = dict(type=sampler) if isinstance(sampler, str) else dict(sampler)
    said = dict(ts=ts, timesteps=timesteps, num_scales=num_scales)
    given |= {name: value for name, value in said.items() if value is not None}
    if not given:
        return None
    if 'type' not in given:
        raise InputError('num_scales goes with ts or timesteps.')
    given['type'] = sampler_type(given['type'])
    own = dict(own or {})
    if own.get('type') != given['type']:
        own = {}
    levels = [name for name in ('ts', 'timesteps', 'sigmas') if given.get(name) is not None]
    if not levels:
        return own | given
    if given['type'] != 'MultistepSampler':
        raise InputError(
            f'{levels[0]} is a setting of the multistep sampler, not of {given["type"]}.'
        )
    if len(levels) > 1:
        raise InputError(f'{" and ".join(levels)} say the same: give one of them.')
    own = {name: value for name, value in own.items() if name not in ('ts', 'sigmas')}
    given = own | given
    if levels != ['sigmas'] and given.get('num_scales') is None:
        raise InputError(
            f"The model's own sampler does not say how many scales {levels[0]} counts: give "
            f'num_scales, 40 for a model of consistency distillation.'
        )
    if 'timesteps' in levels:
        given['ts'] = ts_of_timesteps(given.pop('timesteps'), num_scales=given['num_scales'])
    return given


def ts_of_timesteps(timesteps: Sequence[int], num_scales: int) -> tuple[int, ...]:
    """The ``ts`` of what diffusers calls timesteps: (106, 0) of 201 scales -> (0, 106, 200).

    diffusers' CMStochasticIterativeScheduler counts the same grid from sigma_max on, but lists the
    indices in descending order, and ends at sigma_min without being told. Where it is told to
    evaluate at sigma_min, that evaluation changes nothing and is left out here.

    Args:
        timesteps: Descending to 0, where pure noise is.
        num_scales: Levels of the grid (diffusers' num_train_timesteps).

    Raises:
        InputError: They do not descend to 0, or exceed the grid.
    """
    steps = tuple(timesteps)
    whole = all(isinstance(step, int | np.integer) for step in steps)
    if not steps or not whole or steps[-1] != 0 or any(a <= b for a, b in pairwise(steps)):
        raise InputError(
            f'timesteps must be whole numbers that descend to 0, such as 22,0, not '
            f'{",".join(map(str, steps))}.'
        )
    last = num_scales - 1
    if steps[0] > last:
        raise InputError(
            f'timesteps of {num_scales} scales start at {last} or less, not {steps[0]}.'
        )
    return (*(int(step) for step in reversed(steps) if step != last), last)
