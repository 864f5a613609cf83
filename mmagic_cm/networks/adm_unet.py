"""The U-Net of ADM (arXiv:2105.05233), named as the released checkpoints name its parameters."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..diffusion.guidance import NO_CLASS
from ..errors import InputError
from ..registry import MODELS
from .base import Network
from .layers import GroupNorm, attend, check_conditional, check_halvings, run, silu

# Width multipliers a resolution level that the released networks use.
CHANNEL_MULT = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


def timestep_embedding(timesteps: torch.Tensor, dim: int, max_period: float = 1e4) -> torch.Tensor:
    """Sinusoidal features cos || sin of (N,) real-valued timesteps: float32 (N, dim)."""
    half = dim // 2
    order = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequencies = torch.exp(order * (-math.log(max_period) / half))
    angles = timesteps.float()[:, None] * frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(features, (0, dim % 2))


def modulate(
    norm: nn.GroupNorm, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """norm(x) (1 + scale) + shift for (N, C, H, W) and scale and shift (N, C)."""
    scale = 1 + scale
    # torch.compile joins the passes by itself; it would make a graph for every number of groups.
    if torch.compiler.is_compiling() or not x.is_contiguous():
        return torch.addcmul(shift[:, :, None, None], norm(x), scale[:, :, None, None])
    # The batch as one image of N times the groups, each channel with a weight of its own: the
    # norm scales and shifts in its own pass, which halves the time.
    weight, bias = norm.weight * scale, torch.addcmul(shift, norm.bias, scale)
    groups = len(x) * norm.num_groups
    h = F.group_norm(x.flatten(0, 1)[None], groups, weight.flatten(), bias.flatten(), norm.eps)
    return h.view_as(x)


def pixel_norm(values: torch.Tensor) -> torch.Tensor:
    """Each row of (N, C) over its root mean square."""
    return values * (values.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def zero_init(module: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at zero: the network then starts as F(x) = 0, that is D(x) = c_skip x."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


class Downsample(nn.Module):
    """Halve the size by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2)."""
        return self.op(x)


class UpsamplingConv2d(nn.Conv2d):
    """A 3 x 3 convolution of the image with each pixel repeated 2 x 2.

    Taps that meet copies of one pixel are summed first: what is left is a 4 x 4 transposed
    convolution of the small image, with less than half the multiplications.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', 2H, 2W)."""
        weight = self.weight.transpose(0, 1)
        for dim in (2, 3):
            first, second, third = weight.unbind(dim)
            weight = torch.stack([third, second + third, first + second, first], dim)
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=1)


class Upsample(nn.Module):
    """Double the size by repetition, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = UpsamplingConv2d(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        return self.conv(x)


class ResBlock(nn.Module):
    """Residual block with the embedding of noise level and class.

    Args:
        channels: Of the input.
        out_channels: Of the output.
        emb_channels: Of the embedding.
        dropout: Probability.
        use_scale_shift_norm: Embedding as h (1 + scale) + shift after the norm; otherwise added.
        norm_groups: Groups of the norms.
        resample: 'down', 'up', or None.
        pixel_norm_emb: Normalise 1 + scale and shift over the channels (:func:`pixel_norm`).
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_channels: int,
        dropout: float,
        use_scale_shift_norm: bool,
        norm_groups: int,
        resample: str | None = None,
        pixel_norm_emb: bool = False,
    ) -> None:
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.pixel_norm_emb = pixel_norm_emb
        self.resample = resample
        self.in_layers = nn.Sequential(
            GroupNorm(norm_groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )
        emb_out = 2 * out_channels if use_scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, emb_out))
        self.out_layers = nn.Sequential(
            GroupNorm(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def _resample(self, x: torch.Tensor) -> torch.Tensor:
        if self.resample == 'down':
            return F.avg_pool2d(x, 2)
        if self.resample == 'up':
            return F.interpolate(x, scale_factor=2, mode='nearest')
        return x

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) and the activated embedding SiLU(e), (N, E) -> (N, C', H', W')."""
        norm, _, conv = self.in_layers
        h = conv(self._resample(silu(norm(x))))
        emb = self.emb_layers[1](emb).to(h.dtype)
        norm, _, dropout, conv = self.out_layers
        if self.use_scale_shift_norm:
            scale, shift = emb.chunk(2, dim=1)
            if self.pixel_norm_emb:
                scale, shift = pixel_norm(1 + scale) - 1, pixel_norm(shift)
            h = modulate(norm, h, scale, shift)
        else:
            h = norm(h + emb[:, :, None, None])
        return self.skip_connection(self._resample(x)) + conv(dropout(silu(h)))


class AttentionBlock(nn.Module):
    """Self-attention over all pixels. Channels of ``qkv`` are ordered (three, heads, dim)."""

    def __init__(
        self, channels: int, num_heads: int, num_head_channels: int, norm_groups: int
    ) -> None:
        super().__init__()
        by_width = num_head_channels > 0
        divisor = num_head_channels if by_width else num_heads
        if divisor < 1 or channels % divisor:
            raise InputError(
                f'{channels} channels cannot be split into attention heads: change num_heads or '
                f'num_head_channels.'
            )
        self.num_heads = channels // num_head_channels if by_width else num_heads
        self.norm = GroupNorm(norm_groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.num_heads, -1, height * width)
        query, key, value = qkv.transpose(3, 4).unbind(1)
        h = attend(query, key, value)
        return x + self.proj_out(h.transpose(2, 3).reshape(n, c, height, width))


class Layers(nn.Sequential):
    """Layers of one entry of ``input_blocks`` or ``output_blocks``."""

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """Hand the activated embedding to the layers that take it."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


@MODELS.register_module()
class ADMUNet(Network):
    """The network of the paper, F(x, timestep, label).

    Args:
        image_size: Side of the (square) images in pixels.
        model_channels: Width of the first level.
        num_res_blocks: Residual blocks a level.
        in_channels: Of the input.
        out_channels: Of the output.
        attention_resolutions: Feature-map sizes in pixels at which to attend.
        channel_mult: Width multiplier of each level; None: the usual one for 64, 128, 256, 512.
        dropout: Probability.
        num_classes: Number of classes; None: unconditional.
        num_heads: Attention heads, where ``num_head_channels`` is -1.
        num_head_channels: Channels a head.
        use_scale_shift_norm: Embedding scales and shifts the norms; otherwise it is added.
        resblock_updown: Resample in residual blocks; otherwise by convolutions.
        use_checkpoint: Recompute blocks in the backward pass to save memory.
        norm_groups: Groups of the norms; must divide all widths.
        null_class: Know "no class" as label -1, in a row of its own of the embedding: for
            classifier-free guidance.
        dropout_resolutions: Feature-map sizes in pixels at which to drop out; None: all.
        pixel_norm_emb: Bound scale and shift of the norms, for continuous-time training: adaptive
            double normalization (arXiv:2410.11081, section 4.1).
    """

    def __init__(
        self,
        image_size: int,
        model_channels: int,
        num_res_blocks: int,
        in_channels: int = 3,
        out_channels: int = 3,
        attention_resolutions: tuple[int, ...] = (32, 16, 8),
        channel_mult: tuple[float, ...] | None = None,
        dropout: float = 0.0,
        num_classes: int | None = None,
        num_heads: int = 4,
        num_head_channels: int = -1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        use_checkpoint: bool = False,
        norm_groups: int = 32,
        null_class: bool = False,
        dropout_resolutions: tuple[int, ...] | None = None,
        pixel_norm_emb: bool = False,
    ) -> None:
        super().__init__()
        if pixel_norm_emb and not use_scale_shift_norm:
            raise InputError('pixel_norm_emb is for networks with use_scale_shift_norm.')
        if null_class and num_classes is None:
            raise InputError('null_class is for networks with num_classes.')
        if channel_mult is None:
            if image_size not in CHANNEL_MULT:
                raise InputError(
                    f'There is no usual channel_mult for image_size {image_size}: give one, such '
                    f'as (1, 2). Known sizes: {", ".join(map(str, CHANNEL_MULT))}.'
                )
            channel_mult = CHANNEL_MULT[image_size]
        check_halvings(image_size, channel_mult)
        widths = [int(multiplier * model_channels) for multiplier in channel_mult]
        if not all(width and width % norm_groups == 0 for width in widths):
            raise InputError(f'norm_groups {norm_groups} must divide all the widths {widths}.')
        self.image_size = image_size
        self.model_channels = model_channels
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.null_class = null_class
        self.use_checkpoint = use_checkpoint
        emb_channels = 4 * model_channels

        def res_block(channels: int, out: int, resample: str | None = None) -> ResBlock:
            drops = dropout_resolutions is None or size in dropout_resolutions
            rate = dropout if drops else 0.0
            return ResBlock(
                channels,
                out,
                emb_channels,
                rate,
                use_scale_shift_norm,
                norm_groups,
                resample,
                pixel_norm_emb,
            )

        def attention(channels: int) -> AttentionBlock:
            return AttentionBlock(channels, num_heads, num_head_channels, norm_groups)

        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, emb_channels),
            nn.SiLU(),
            nn.Linear(emb_channels, emb_channels),
        )
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes + null_class, emb_channels)

        width = widths[0]
        self.input_blocks = nn.ModuleList([Layers(nn.Conv2d(in_channels, width, 3, padding=1))])
        skip_widths = [width]
        size = image_size
        for level, level_width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers = [res_block(width, level_width)]
                width = level_width
                if size in attention_resolutions:
                    layers.append(attention(width))
                self.input_blocks.append(Layers(*layers))
                skip_widths.append(width)
            if level < len(widths) - 1:
                size //= 2
                down = res_block(width, width, 'down') if resblock_updown else Downsample(width)
                self.input_blocks.append(Layers(down))
                skip_widths.append(width)

        self.middle_block = Layers(
            res_block(width, width), attention(width), res_block(width, width)
        )

        self.output_blocks = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(widths))):
            for block in range(num_res_blocks + 1):
                layers = [res_block(width + skip_widths.pop(), level_width)]
                width = level_width
                if size in attention_resolutions:
                    layers.append(attention(width))
                if level and block == num_res_blocks:
                    size *= 2
                    layers.append(
                        res_block(width, width, 'up') if resblock_updown else Upsample(width)
                    )
                self.output_blocks.append(Layers(*layers))

        self.out = nn.Sequential(
            GroupNorm(norm_groups, width),
            nn.SiLU(),
            zero_init(nn.Conv2d(width, out_channels, 3, padding=1)),
        )

    def _embed(self, timesteps: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        check_conditional(self.num_classes, labels)
        # In float32, see `cast`.
        with torch.autocast(timesteps.device.type, enabled=False):
            features = timestep_embedding(timesteps, self.model_channels)
            emb = self.time_embed(features)
            if labels is None:
                return emb
            if self.null_class:
                labels = labels.masked_fill(labels == NO_CLASS, self.num_classes)
            return emb + self.label_emb(labels)

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Evaluate the network.

        Args:
            x: (N, in_channels, H, W), scaled by c_in.
            timesteps: (N,) float, 250 ln sigma.
            labels: (N,) int64 in 0 .. num_classes - 1, exactly where the network is conditional;
                -1 of a network with ``null_class``.

        Returns:
            (N, out_channels, H, W).
        """
        x = x.to(self.dtype)
        # Every residual block starts from SiLU(e): once is enough.
        emb = F.silu(self._embed(timesteps, labels)).to(self.dtype)
        skips = []
        for layers in self.input_blocks:
            x = run(layers, x, emb, self.use_checkpoint)
            skips.append(x)
        x = run(self.middle_block, x, emb, self.use_checkpoint)
        for layers in self.output_blocks:
            x = run(layers, torch.cat([x, skips.pop()], dim=1), emb, self.use_checkpoint)
        norm, _, conv = self.out
        return conv(silu(norm(x)))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights of all layers but the embedding."""
        return self.out[2].weight.dtype

    def cast(self, dtype: torch.dtype) -> 'ADMUNet':
        """Keep the weights in half precision, for inference: half the memory, and no casts.

        The embedding stays in float32: timesteps near 1095 step by 8 in bfloat16.
        """
        kept = [self.time_embed, *([] if self.num_classes is None else [self.label_emb])]
        parameters = {id(p) for module in kept for p in module.parameters()}
        for parameter in self.parameters():
            if id(parameter) not in parameters:
                parameter.data = parameter.data.to(dtype)
        return self
