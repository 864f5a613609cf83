"""Moving averages of a module's parameters, updated in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.layouts import SIGMA_REL, average_length
from ..errors import InputError
from .posthoc_ema import power_beta, sigma_rel_to_gamma


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
    """Averages of a module's state at any number of rates, and of power-function profiles.

    Parameters are averaged; buffers (SongUNet's frequencies and filters) are copied.

    Args:
        module: What to follow; the averages start equal to it.
        rates: Such as (0.999, 0.9999), each in [0, 1); or 'sigma_rel=0.05', the name of a profile,
            see :mod:`mmagic_cm.engine.posthoc_ema`.

    Attributes:
        averages: State dicts by rate or name.
    """

    def __init__(self, module: nn.Module, rates: Sequence[float | str]) -> None:
        self._widths = {
            rate: float(rate.removeprefix(SIGMA_REL)) for rate in rates if isinstance(rate, str)
        }
        for sigma_rel in self._widths.values():
            sigma_rel_to_gamma(sigma_rel)  # what is none is told now
        rates = tuple(rate if rate in self._widths else float(rate) for rate in rates)
        if not rates or not all(rate in self._widths or 0 <= rate < 1 for rate in rates):
            raise InputError(f'EMA rates must lie in [0, 1), such as (0.999,), not {rates}.')
        self.module = module
        self.averages = {
            rate: {k: v.detach().clone() for k, v in module.state_dict().items()} for rate in rates
        }

    @property
    def longest(self) -> float | str:
        """The rate or name of the longest average."""
        return max(self.averages, key=average_length)

    def update(self, step: int | None = None) -> None:
        """Take the module's current state into all averages.

        Args:
            step: The number of this optimizer step, from 1 on, by which profiles go.
        """
        parameters = dict(self.module.named_parameters())
        buffers = dict(self.module.named_buffers())
        for name, average in self.averages.items():
            of_power = name in self._widths
            rate = power_beta(self._widths[name], step, 1) if of_power else name
            update_ema([average[k] for k in parameters], list(parameters.values()), rate)
            for key, buffer in buffers.items():
                average[key].copy_(buffer)

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
    def applied(self, rate: float | str | None = None) -> Iterator[None]:
        """Run with an average in the module; afterwards the module is as before.

        Args:
            rate: Or the name of a profile; default: the longest.
        """
        average = self.averages[self.longest if rate is None else rate]
        own = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        self.module.load_state_dict(average)
        try:
            yield
        finally:
            self.module.load_state_dict(own)
