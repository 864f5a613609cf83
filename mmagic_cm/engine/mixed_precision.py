"""Training in bfloat16, float16 or float32 with TF32, on CPUs and GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ..errors import InputError, closest
from ..registry import OPTIM_WRAPPERS

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
# A static scale never grows.
_NEVER = 2**31 - 1


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(OptimWrapper):
    """MMEngine's OptimWrapper with the network in half precision; weights stay in float32.

    Unlike MMEngine's ``AmpOptimWrapper`` it runs on CPUs, too, needs no loss scale for bfloat16,
    and says whether the optimizer really stepped: with float16, a step whose gradients overflow is
    left out, and then no average of the weights may move.

    Args:
        dtype: 'bfloat16'; 'float16', with a loss scale; or 'float32', in whose products GPUs
            round to TF32 from then on, in the whole process: for objectives that compare nearly
            equal outputs, a difference that half precision loses.
        loss_scale: Of float16: 'dynamic' (it starts at 65536, is halved at an overflow, and
            doubled after 2000 steps without one), or a number that stays.
        **settings: Of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.

    Attributes:
        took_step: Whether the last iteration ended in an optimizer step: neither while gradients
            accumulate nor at an overflow.
        grad_norm: Of the last step, before clipping, where ``clip_grad`` asks for it: a tensor on
            the device, so that nothing waits for it.
    """

    def __init__(
        self, dtype: str = 'bfloat16', loss_scale: str | float = 'dynamic', **settings
    ) -> None:
        super().__init__(**settings)
        if dtype not in DTYPES:
            raise InputError(f'There is no dtype {dtype!r}.{closest(dtype, DTYPES)}')
        self.dtype = DTYPES[dtype]
        if self.dtype is torch.float32:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.took_step = False
        self.grad_norm: torch.Tensor | None = None
        self._device = self.optimizer.param_groups[0]['params'][0].device.type
        self._dynamic = loss_scale == 'dynamic'
        self._scaler = None
        if self.dtype is torch.float16:
            self._scaler = torch.amp.GradScaler(self._device, **_scaling(loss_scale))
        elif not self._dynamic:
            raise InputError(f"loss_scale={loss_scale!r} is for dtype='float16'; leave it out.")

    @property
    def loss_scale(self) -> float | None:
        """What losses are multiplied by; None with bfloat16. Waits for the device."""
        return None if self._scaler is None else self._scaler.get_scale()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The network's arithmetic in ``dtype``; no exchange of gradients to accumulate."""
        # Objectives may call the network without gradients first: a weight's half-precision copy
        # that is kept from then has none.
        half = self.dtype is not torch.float32
        autocast = torch.autocast(
            self._device, self.dtype if half else None, enabled=half, cache_enabled=False
        )
        with super().optim_context(model), autocast:
            yield

    def backward(self, loss: torch.Tensor, **settings) -> None:
        """Add the gradients of the scaled loss."""
        self.took_step = False
        super().backward(loss if self._scaler is None else self._scaler.scale(loss), **settings)

    def step(self, **settings) -> None:
        """Clip and step; with float16, unless a gradient overflowed."""
        if self._scaler is None:
            super().step(**settings)
            self.took_step = True
            return
        scale = self._scaler.get_scale()
        if self.clip_grad_kwargs:
            self._scaler.unscale_(self.optimizer)
            self._clip_grad()
        self._scaler.step(self.optimizer, **settings)
        self._scaler.update()
        # The one public sign of an overflow; fused optimizers are called even then.
        self.took_step = self._scaler.get_scale() >= scale
        if not self._dynamic and not self.took_step:
            self._scaler.update(scale)

    def _clip_grad(self) -> None:
        # MMEngine's waits for the device to log the norm.
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        self.grad_norm = self.clip_func(parameters, **self.clip_grad_kwargs)

    def state_dict(self) -> dict:
        """The optimizer's state, and a dynamic loss scale."""
        state = super().state_dict()
        if self._scaler is not None and self._dynamic:
            state['loss_scaler'] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over a saved state, of a run in any precision."""
        scaling = state_dict.pop('loss_scaler', None)
        if scaling and self._scaler is not None and self._dynamic:
            self._scaler.load_state_dict(scaling)
        super().load_state_dict(state_dict)


def _scaling(loss_scale: str | float) -> dict:
    """Settings of ``GradScaler``."""
    if loss_scale == 'dynamic':
        return {}
    if not isinstance(loss_scale, int | float) or not loss_scale > 0:
        raise InputError(f"loss_scale must be 'dynamic' or a number above 0, not {loss_scale!r}.")
    return dict(init_scale=float(loss_scale), growth_interval=_NEVER)
