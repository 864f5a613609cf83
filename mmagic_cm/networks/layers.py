"""What the U-Nets share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ..errors import InputError


def check_halvings(image_size: int, channel_mult: Sequence[float]) -> None:
    """Refuse a size that cannot be halved once for each level but the first."""
    if image_size % 2 ** (len(channel_mult) - 1):
        raise InputError(
            f'image_size {image_size} cannot be halved {len(channel_mult) - 1} times, once '
            f'for each further entry of channel_mult {tuple(channel_mult)}.'
        )


def check_conditional(num_classes: int | None, labels: torch.Tensor | None) -> None:
    """Refuse labels of an unconditional network, and none of a conditional one."""
    if (labels is None) != (num_classes is None):
        raise InputError(
            'This network is unconditional and takes no labels.'
            if num_classes is None
            else f'This network is conditional: give labels of {num_classes} classes.'
        )


def run(block: nn.Module, x: torch.Tensor, emb: torch.Tensor, recompute: bool) -> torch.Tensor:
    """block(x, emb); ``recompute``: its activations are made again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, emb, use_reentrant=False)
    return block(x, emb)


def in_jvp() -> bool:
    """Whether forward derivatives are being taken, by ``torch.func.jvp`` or dual numbers."""
    return forward_ad._current_level >= 0


def silu(x: torch.Tensor) -> torch.Tensor:
    """SiLU of what nobody else holds: in place where no gradient wants the input."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class GroupNorm(nn.GroupNorm):
    """torch's, which has a forward derivative in one order of memory only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not in_jvp():
            return super().forward(x)
        h = super().forward(x.contiguous())
        # As it came: dropout draws its masks in the order of memory.
        last = x.is_contiguous(memory_format=torch.channels_last)
        return h.contiguous(memory_format=torch.channels_last) if last else h


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(dim)) v of (N, heads, pixels, dim)."""
    if in_jvp():  # the fused kernels have no forward derivative
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)
