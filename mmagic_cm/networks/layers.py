"""What the U-Nets share."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel


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
        return super().forward(x.contiguous() if in_jvp() else x)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(dim)) v of (N, heads, pixels, dim)."""
    if in_jvp():  # the fused kernels have no forward derivative
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)
