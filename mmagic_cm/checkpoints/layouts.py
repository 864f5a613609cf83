"""What the keys of a checkpoint mean, and whether they fit a model."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import InputError
from .diffusers_layout import check_unet_config, from_diffusers, is_diffusers
from .jax_layout import from_jax, is_jax

# Our state dicts: 'denoiser.network.<name>', and 'target.network.<name>' while training needs one.
# The paper's files hold '<name>' alone.
NETWORK, TARGET = 'denoiser.network.', 'target.network.'
# Begins the name of an average of a power-function profile, such as 'sigma_rel=0.05'; others are
# named by their rates.
SIGMA_REL = 'sigma_rel='


def average_key(name: str) -> str | float:
    """The name of an average in a file, a rate as a number."""
    return name if name.startswith(SIGMA_REL) else float(name)


def average_length(key: str | float) -> tuple[bool, float]:
    """What orders averages by their length; rates come after power-function profiles."""
    of_power = isinstance(key, str)
    return not of_power, float(key.removeprefix(SIGMA_REL) if of_power else key)


def select_weights(checkpoint: Mapping, ema: str | float | None = 'auto') -> OrderedDict:
    """Choose among the online network, the target network and the EMAs of a checkpoint.

    Args:
        checkpoint: As :func:`~mmagic_cm.checkpoints.read_checkpoint` returns it.
        ema: 'auto' for the longest EMA that there is, else the only weights; a rate such as
            0.999, or 'sigma_rel=0.05'; 'target' for the target network; None for the online one.

    Returns:
        A state dict for :class:`~mmagic_cm.models.ConsistencyModel`.

    Raises:
        InputError: There is no such EMA, or no target network.
    """
    emas = checkpoint.get('emas', {})
    given = checkpoint.get('state_dict', checkpoint)
    if ema is None or (ema == 'auto' and not emas):
        weights = OrderedDict(given)
        # What torch hands on to the module: here the settings of a UNet2DModel.
        weights._metadata = getattr(given, '_metadata', {})
        return weights
    if ema == 'target':
        target = {name: weight for name, weight in given.items() if name.startswith(TARGET)}
        if not target:
            raise InputError('The checkpoint has no target network: only training needs one.')
        return _online({name.removeprefix('target.'): weight for name, weight in target.items()})
    rates = {average_key(rate): rate for rate in emas}
    rate = max(rates, key=average_length) if ema == 'auto' else ema
    if rate not in rates:
        known = ', '.join(emas) or 'none'
        raise InputError(
            f'The checkpoint has no EMA of rate {ema!r}; it has: {known}. '
            f"'auto' takes the longest, 'target' the target network, None the online network."
        )
    return _online(emas[rates[rate]])


def _online(denoiser: Mapping[str, torch.Tensor]) -> OrderedDict:
    """A state dict with another denoiser in the place of the online one."""
    weights = OrderedDict({f'denoiser.{name}': weight for name, weight in denoiser.items()})
    weights._metadata = {}
    return weights


def rename_to_ours(weights: MutableMapping[str, torch.Tensor]) -> None:
    """Bring the names of any layout that is known into ours, in place."""
    if is_diffusers(weights):
        from_diffusers(weights)
    raw = any(name.startswith('input_blocks.') for name in weights)
    if raw and not any(name.startswith(NETWORK) for name in weights):
        for name in list(weights):
            weights[NETWORK + name] = weights.pop(name)


def network_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The online network alone, by the names of the paper's files."""
    weights = dict(weights)
    rename_to_ours(weights)
    return {
        name.removeprefix(NETWORK): tensor
        for name, tensor in weights.items()
        if name.startswith(NETWORK)
    }


def fit_state_dict(
    weights: MutableMapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Bring weights into our layout, in place, and refuse those that do not fit.

    What only training needs is left out where the model has no place for it: a target network,
    what learns in an objective, the input by which EDM's network is told of augmentation.

    Args:
        weights: A state dict in our layout, in that of the paper's files, diffusers' or JAX's.
        expected: The state dict of the model that is to take them.

    Raises:
        InputError: Names the first keys and shapes that differ.
    """
    rename_to_ours(weights)
    if is_jax(weights):
        names = [name.removeprefix(NETWORK) for name in expected if name.startswith(NETWORK)]
        for prefix in (NETWORK, TARGET):
            from_jax(weights, names, prefix)
    for part in ('target.', 'objective.'):
        given = [name for name in weights if name.startswith(part)]
        wanted = [name for name in expected if name.startswith(part)]
        if given and not wanted:
            for name in given:
                del weights[name]
        elif wanted and not given:
            # Weights from elsewhere: the target starts equal to the online network, and what
            # learns in the objective as it is.
            own = weights if part == 'target.' else expected
            weights |= {name: own.get(name.replace('target.', 'denoiser.', 1)) for name in wanted}
    for name in [name for name in weights if name.endswith('network.map_augment.weight')]:
        if name not in expected:  # of no augmentation it says nothing
            del weights[name]
    problems = _differences(weights, expected)
    if problems:
        shown = '; '.join(problems[:3])
        more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise InputError(f'The checkpoint does not fit this model: {shown}{more}.')


class _NoDraws(TorchFunctionMode):
    """Leaves tensors as they are where layers would draw their first weights."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        if getattr(func, '__module__', None) == 'torch.nn.init':
            return kwargs['tensor']
        return func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Build models by their shapes alone, on the meta device.

    Nor are weights drawn there, for which torch imports its compiler: a second.
    """
    with torch.device('meta'), _NoDraws():
        yield


def check_settings(metadata: Mapping, network: nn.Module) -> None:
    """Refuse weights whose file says that another network computes with them.

    Args:
        metadata: What torch keeps beside a state dict for the model itself.
        network: What takes the weights.

    Raises:
        InputError: Names the settings that differ.
    """
    if 'unet_config' in metadata:
        check_unet_config(metadata['unet_config'], network)


def _differences(weights: Mapping, expected: Mapping[str, torch.Tensor]) -> list[str]:
    problems = [f'{name} is missing' for name in expected if name not in weights]
    problems += [f'{name} is not expected' for name in weights if name not in expected]
    for name, tensor in expected.items():
        shape = getattr(weights.get(name, tensor), 'shape', None)
        if shape != tensor.shape:
            found = 'no tensor' if shape is None else tuple(shape)
            hint = ''
            if name.endswith('.qkv.weight') and len(shape or ()) == 3:
                # Of the same size and yet not the same: (heads, three, dim) instead.
                hint = " (guided-diffusion's attention, with another order of heads)"
            problems.append(f'{name} is {found} instead of {tuple(tensor.shape)}{hint}')
    return problems
