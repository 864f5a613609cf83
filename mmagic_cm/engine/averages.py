"""Exponential moving averages of a module's parameters, updated in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.runner import Runner
from torch import nn

from ..errors import InputError


@torch.no_grad()
def update_ema(
    averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], rate: float
) -> None:
    """Averages <- rate averages + (1 - rate) values, in place; rate 0 copies exactly."""
    torch._foreach_lerp_(list(averages), list(values), 1 - rate)


def took_step(runner: Runner) -> bool:
    """Whether this iteration ended in an optimizer step.

    It does not while gradients accumulate, nor where float16 gradients overflow.
    """
    wrapper = runner.optim_wrapper
    return getattr(wrapper, 'took_step', wrapper.should_update())


class EMATracker:
    """Averages of a module's state at any number of rates.

    Parameters are averaged; buffers (SongUNet's frequencies and filters) are copied.

    Args:
        module: What to follow; the averages start equal to it.
        rates: Such as (0.999, 0.9999); each in [0, 1).
    """

    def __init__(self, module: nn.Module, rates: Sequence[float]) -> None:
        if not rates or not all(0 <= rate < 1 for rate in rates):
            raise InputError(f'EMA rates must lie in [0, 1), such as (0.999,), not {rates}.')
        self.module = module
        self.averages = {
            float(rate): {k: v.detach().clone() for k, v in module.state_dict().items()}
            for rate in rates
        }

    def update(self) -> None:
        """Take the module's current state into all averages."""
        parameters = dict(self.module.named_parameters())
        buffers = dict(self.module.named_buffers())
        for rate, average in self.averages.items():
            update_ema([average[k] for k in parameters], list(parameters.values()), rate)
            for name, buffer in buffers.items():
                average[name].copy_(buffer)

    def reset(self) -> None:
        """Start all averages again from the module's current state."""
        state = self.module.state_dict()
        for average in self.averages.values():
            for name, tensor in average.items():
                tensor.copy_(state[name])

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        """``{'0.999': {name: tensor}, ...}``, as checkpoints hold it under ``emas``."""
        return {str(rate): dict(average) for rate, average in self.averages.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take over saved averages; every rate and every tensor must be there."""
        for rate, average in self.averages.items():
            if str(rate) not in state:
                known = ', '.join(state) or 'none'
                raise InputError(f'The checkpoint has no EMA of rate {rate}; it has: {known}.')
            saved = state[str(rate)]
            for name, tensor in average.items():
                tensor.copy_(saved[name])

    @contextmanager
    def applied(self, rate: float | None = None) -> Iterator[None]:
        """Run with an average in the module; afterwards the module is as before.

        Args:
            rate: Default: the longest.
        """
        average = self.averages[max(self.averages) if rate is None else rate]
        own = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        self.module.load_state_dict(average)
        try:
            yield
        finally:
            self.module.load_state_dict(own)
