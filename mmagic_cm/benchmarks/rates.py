"""What the machine can do: the network's own convolutions and attentions, each measured alone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..networks.adm_unet import ADMUNet, AttentionBlock
from .timing import medians, take_turns

LAYOUTS = (torch.contiguous_format, torch.channels_last)
# Evaluations that one with gradients is worth: those of input and weights take one each.
WITH_GRADIENT = 3


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network: (n, c, h, w) by a kernel."""

    n: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel: int
    stride: int

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        pixels = self.n * (self.height // self.stride) * (self.width // self.stride)
        return 2 * pixels * self.channels * self.out_channels * self.kernel**2

    def call(
        self, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
    ) -> tuple[Callable[[], torch.Tensor], list[torch.Tensor]]:
        """A function that computes it, and the tensors that would have gradients."""
        made = dict(device=device, dtype=dtype)
        x = torch.randn(self.n, self.channels, self.height, self.width, **made)
        weight = torch.randn(self.out_channels, self.channels, self.kernel, self.kernel, **made)
        x, weight = (t.to(memory_format=layout).requires_grad_() for t in (x, weight))
        padding = self.kernel // 2
        return lambda: F.conv2d(x, weight, stride=self.stride, padding=padding), [x, weight]


@dataclass(frozen=True)
class Attention:
    """One self-attention of a network: (n, heads, tokens, dim)."""

    n: int
    heads: int
    tokens: int
    dim: int

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        return 4 * self.n * self.heads * self.tokens**2 * self.dim

    def call(
        self, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
    ) -> tuple[Callable[[], torch.Tensor], list[torch.Tensor]]:
        """A function that computes it, and the tensors that would have gradients."""
        shape = self.n, self.heads, self.tokens, self.dim
        if layout is torch.channels_last:  # as they come out of a convolution in that layout
            shape = self.n, self.tokens, self.heads, self.dim
        qkv = [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]
        if layout is torch.channels_last:
            qkv = [tensor.transpose(1, 2) for tensor in qkv]
        qkv = [tensor.requires_grad_() for tensor in qkv]
        return lambda: F.scaled_dot_product_attention(*qkv), qkv


def operations(network: ADMUNet, batch_size: int) -> Counter:
    """The convolutions and attentions of one evaluation, and how often each is there."""
    found: Counter = Counter()

    def note(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        channels, (height, width) = inputs[0].shape[1], output.shape[2:]
        if isinstance(module, AttentionBlock):
            heads = module.num_heads
            operation = Attention(batch_size, heads, height * width, channels // heads)
        else:
            stride = module.stride[0]
            operation = Convolution(
                batch_size,
                channels,
                height * stride,
                width * stride,
                module.out_channels,
                module.kernel_size[0],
                stride,
            )
        found[operation] += 1

    device = next(network.parameters()).device
    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | AttentionBlock)
    ]
    try:
        x = torch.zeros(
            1, network.in_channels, network.image_size, network.image_size, device=device
        )
        labels = torch.zeros(1, dtype=torch.int64, device=device)
        with torch.no_grad():
            network(x, torch.ones(1, device=device), labels if network.num_classes else None)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def total_flops(found: Counter) -> int:
    """Of the convolutions and attentions, which are all but a thousandth of a network."""
    return sum(operation.flops * count for operation, count in found.items())


@dataclass(frozen=True)
class BestRate:
    """What a set of operations takes when each runs alone, in the layout that suits it best.

    Attributes:
        seconds: Sum over all operations.
        best: The highest rate of one of them, in TFLOP/s.
        mean: Their common rate, in TFLOP/s.
    """

    seconds: float
    best: float
    mean: float


def best_rate(
    found: Counter,
    device: torch.device,
    dtype: torch.dtype,
    backward: bool = False,
    progress: bool = True,
) -> BestRate:
    """Measure every operation alone.

    Args:
        found: From :func:`operations`.
        device: Where.
        dtype: In what.
        backward: With the gradients of input and weights; twice the work more.
        progress: Show a bar.
    """
    total, best, work = 0.0, 0.0, 0
    for operation, count in tqdm(found.items(), desc='best rates', disable=not progress):
        seconds = min(_seconds(operation, device, dtype, layout, backward) for layout in LAYOUTS)
        flops = operation.flops * (WITH_GRADIENT if backward else 1)
        total += seconds * count
        work += flops * count
        best = max(best, flops / seconds)
    return BestRate(seconds=total, best=best / 1e12, mean=work / total / 1e12)


def _seconds(
    operation: Convolution | Attention,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format,
    backward: bool,
) -> float:
    call, inputs = operation.call(device, dtype, layout)
    if backward:

        def measured():
            output = call()
            torch.autograd.grad(output, inputs, torch.ones_like(output))
    else:

        def measured():
            with torch.inference_mode():
                call()

    return medians(take_turns({'it': measured}, device, repeats=3, progress=False))['it']
