"""What the keys of a checkpoint mean, and whether they fit a model."""

from collections.abc import Mapping, MutableMapping

import torch

from ..errors import InputError

# Our state dicts: 'denoiser.network.<name>', and 'target.network.<name>' while training needs one.
# The paper's files hold '<name>' alone.
NETWORK = 'denoiser.network.'
_ADM_FIRST_KEY = 'input_blocks.0.0.weight'


def select_weights(checkpoint: Mapping, ema: str | float | None = 'auto') -> dict:
    """Choose among the online network and the evaluation EMAs of a checkpoint.

    Args:
        checkpoint: As :func:`~mmagic_cm.checkpoints.read_checkpoint` returns it.
        ema: 'auto' for the longest EMA that there is, else the only weights; a rate such as
            0.999; None for the online network.

    Returns:
        A state dict for :class:`~mmagic_cm.models.ConsistencyModel`.

    Raises:
        InputError: There is no EMA of this rate.
    """
    weights = dict(checkpoint.get('state_dict', checkpoint))
    emas = checkpoint.get('emas', {})
    if ema is None or (ema == 'auto' and not emas):
        return weights
    rates = {float(rate): rate for rate in emas}
    rate = max(rates) if ema == 'auto' else ema
    if rate not in rates:
        known = ', '.join(emas) or 'none'
        raise InputError(
            f'The checkpoint has no EMA of rate {ema!r}; it has: {known}. '
            f"'auto' takes the longest, None the online network."
        )
    return {f'denoiser.{name}': weight for name, weight in emas[rates[rate]].items()}


def fit_state_dict(
    weights: MutableMapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Bring weights into our layout, in place, and refuse those that do not fit.

    Args:
        weights: A state dict in our layout or in that of the paper's files.
        expected: The state dict of the model that is to take them.

    Raises:
        InputError: Names the first keys and shapes that differ.
    """
    if _ADM_FIRST_KEY in weights:
        for name in list(weights):
            weights[NETWORK + name] = weights.pop(name)
    wants_target = any(name.startswith('target.') for name in expected)
    for name in [name for name in weights if name.startswith('target.')]:
        if not wants_target:
            del weights[name]
    if wants_target and not any(name.startswith('target.') for name in weights):
        # Weights from elsewhere: the target starts equal to the online network.
        for name in [name for name in weights if name.startswith('denoiser.')]:
            weights[name.replace('denoiser.', 'target.', 1)] = weights[name]
    problems = _differences(weights, expected)
    if problems:
        shown = '; '.join(problems[:3])
        more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise InputError(f'The checkpoint does not fit this model: {shown}{more}.')


def _differences(weights: Mapping, expected: Mapping[str, torch.Tensor]) -> list[str]:
    problems = [f'{name} is missing' for name in expected if name not in weights]
    problems += [f'{name} is not expected' for name in weights if name not in expected]
    for name, tensor in expected.items():
        shape = getattr(weights.get(name, tensor), 'shape', None)
        if shape != tensor.shape:
            found = 'no tensor' if shape is None else tuple(shape)
            problems.append(f'{name} is {found} instead of {tuple(tensor.shape)}')
    return problems
