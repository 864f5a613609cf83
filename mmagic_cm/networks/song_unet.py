"""DDPM++ and NCSN++ (arXiv:2011.13456), as EDM has them, with NVlabs' names of parameters."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError, closest
from ..registry import MODELS
from .base import Network
from .layers import GroupNorm, attend, check_conditional, check_halvings, run, silu

EMBEDDINGS = ('positional', 'fourier')
ENCODERS = ('standard', 'residual')


def norm(channels: int) -> GroupNorm:
    """At most 32 groups of at least four channels."""
    return GroupNorm(min(32, channels // 4), channels, eps=1e-6)


class PositionalEmbedding(nn.Module):
    """sin || cos of (N,) at frequencies from 1 to 1/10000: float32 (N, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2

    def forward(self, c_noise: torch.Tensor) -> torch.Tensor:
        """(N,) -> (N, channels)."""
        order = torch.arange(self.half, dtype=torch.float32, device=c_noise.device)
        angles = c_noise[:, None] * 1e4 ** (-order / (self.half - 1))
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class FourierEmbedding(nn.Module):
    """sin || cos of (N,) at random frequencies, which are drawn once: float32 (N, channels)."""

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer('freqs', torch.randn(channels // 2) * scale)

    def forward(self, c_noise: torch.Tensor) -> torch.Tensor:
        """(N,) -> (N, channels)."""
        angles = c_noise[:, None] * (2 * math.pi * self.freqs.float())
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResamplingConv2d(nn.Conv2d):
    """A convolution of an image that a filter has doubled or halved.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel_size: 1 or 3.
        resample: 'up', 'down', or None.
        resample_filter: Taps of the filter along one axis: (1, 1) repeats and averages pixels,
            (1, 3, 3, 1) is smoother.
        filter_last: Halve the result instead of the image.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        resample: str | None = None,
        resample_filter: Sequence[int] = (1, 1),
        filter_last: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.resample = resample
        self.filter_last = filter_last
        if resample is not None:
            taps = torch.tensor(resample_filter, dtype=torch.float32)
            taps = taps.outer(taps) / taps.sum() ** 2
            self.register_buffer('resample_filter', taps[None, None])
            self._margin = (len(taps) - 1) // 2

    def _filtered(self, x: torch.Tensor, padding: int) -> torch.Tensor:
        """Doubled or halved, each channel by itself."""
        channels = x.shape[1]
        taps = self.resample_filter.to(x.dtype)
        if self.resample == 'up':
            weight = (4 * taps).expand(channels, 1, -1, -1)
            return F.conv_transpose2d(x, weight, stride=2, padding=padding, groups=channels)
        weight = taps.expand(channels, 1, -1, -1)
        return F.conv2d(x, weight, stride=2, padding=padding, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', 2H, 2W), (N, C', H/2, W/2) or (N, C', H, W)."""
        if self.resample is None:
            return super().forward(x)
        if self.filter_last:
            # The border is the filter's too: it sees what the kernel makes of the zeros outside.
            padding = self.padding[0] + self._margin
            h = self._filtered(F.conv2d(x, self.weight, padding=padding), 0)
            return h + self.bias[:, None, None]
        return super().forward(self._filtered(x, self._margin))


class SongBlock(nn.Module):
    """Residual block with the embedding added, and attention of one head after it.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        emb_channels: Of the embedding.
        dropout: Probability.
        attention: Whether there is any.
        resample: 'up', 'down', or None.
        resample_filter: See :class:`ResamplingConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        dropout: float,
        attention: bool = False,
        resample: str | None = None,
        resample_filter: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        resampling = dict(resample=resample, resample_filter=resample_filter)
        self.norm0 = norm(in_channels)
        self.conv0 = ResamplingConv2d(in_channels, out_channels, 3, **resampling)
        self.affine = nn.Linear(emb_channels, out_channels)
        self.norm1 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = None
        if in_channels != out_channels or resample is not None:
            self.skip = ResamplingConv2d(in_channels, out_channels, 1, **resampling)
        self.norm2 = None
        if attention:
            self.norm2 = norm(out_channels)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) and the activated embedding (N, E) -> (N, C', H', W')."""
        h = self.conv0(silu(self.norm0(x)))
        h = silu(self.norm1(h + self.affine(emb).to(h.dtype)[:, :, None, None]))
        h = self.conv1(self.dropout(h))
        x = (h + (x if self.skip is None else self.skip(x))) * math.sqrt(0.5)
        if self.norm2 is None:
            return x
        n, c, height, width = x.shape
        # Rows of qkv are (channel, three).
        qkv = self.qkv(self.norm2(x)).reshape(n, 1, c, 3, height * width)
        h = attend(*qkv.permute(3, 0, 1, 4, 2).unbind(0))
        return (x + self.proj(h.transpose(2, 3).reshape(n, c, height, width))) * math.sqrt(0.5)


@MODELS.register_module()
class SongUNet(Network):
    """The U-Net F(x, c_noise, labels) of DDPM++ and of NCSN++.

    DDPM++: ``embedding='positional'``, ``encoder='standard'``, ``resample_filter=(1, 1)``. NCSN++:
    'fourier', 'residual', (1, 3, 3, 1) and ``channel_mult_noise=2``.

    Args:
        image_size: Side of the (square) images in pixels.
        model_channels: Base width.
        num_res_blocks: Residual blocks a level (one more on the way up).
        in_channels: Of the input.
        out_channels: Of the output.
        attention_resolutions: Feature-map sizes, in pixels, with attention.
        channel_mult: Width multipliers, one a level.
        dropout: Probability in residual blocks.
        num_classes: Number of classes; None: unconditional.
        augment_dim: Length of the vectors that say how an image was augmented; 0: it is not told.
        channel_mult_noise: Width multiplier of the embedding of the noise level.
        embedding: 'positional' or 'fourier'.
        encoder: 'standard', or 'residual': the image joins at each level.
        resample_filter: See :class:`ResamplingConv2d`.
        use_checkpoint: Recompute activations in the backward pass: less memory, more time.

    Attributes:
        null_class: A conditional network knows "no class", as label -1: a vector of zeros.

    Raises:
        InputError: Settings that contradict each other.
    """

    c_noise = 'edm'

    def __init__(
        self,
        image_size: int,
        model_channels: int = 128,
        num_res_blocks: int = 4,
        in_channels: int = 3,
        out_channels: int = 3,
        attention_resolutions: Sequence[int] = (16,),
        channel_mult: Sequence[int] = (2, 2, 2),
        dropout: float = 0.1,
        num_classes: int | None = None,
        augment_dim: int = 0,
        channel_mult_noise: int = 1,
        embedding: str = 'positional',
        encoder: str = 'standard',
        resample_filter: Sequence[int] = (1, 1),
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('embedding', embedding, EMBEDDINGS),
            ('encoder', encoder, ENCODERS),
        ):
            if value not in known:
                raise InputError(f'{value!r} is no {name}.{closest(value, known)}')
        check_halvings(image_size, channel_mult)
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.null_class = num_classes is not None
        self.augment_dim = augment_dim
        self.use_checkpoint = use_checkpoint

        noise_channels, emb_channels = model_channels * channel_mult_noise, 4 * model_channels
        kind = FourierEmbedding if embedding == 'fourier' else PositionalEmbedding
        self.map_noise = kind(noise_channels)
        if num_classes is not None:
            self.map_label = nn.Linear(num_classes, noise_channels)
        if augment_dim:
            self.map_augment = nn.Linear(augment_dim, noise_channels, bias=False)
        self.map_layer0 = nn.Linear(noise_channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)

        def block(width: int, out: int, attention: bool = False, resample: str | None = None):
            return SongBlock(
                width, out, emb_channels, dropout, attention, resample, resample_filter
            )

        width = model_channels
        sizes = [image_size >> level for level in range(len(channel_mult))]
        self.enc = nn.ModuleDict({f'{image_size}x{image_size}_conv': nn.Conv2d(
            in_channels, width, 3, padding=1
        )})  # fmt: skip
        skips, image_channels = [width], in_channels
        for size, mult in zip(sizes, channel_mult, strict=True):
            name = f'{size}x{size}'
            if size != image_size:
                self.enc[f'{name}_down'] = block(width, width, resample='down')
                skips.append(width)
                if encoder == 'residual':
                    self.enc[f'{name}_aux_residual'] = ResamplingConv2d(
                        image_channels, width, 3, 'down', resample_filter, filter_last=True
                    )
                    image_channels = width
            for i in range(num_res_blocks):
                attention = size in attention_resolutions
                self.enc[f'{name}_block{i}'] = block(width, model_channels * mult, attention)
                width = model_channels * mult
                skips.append(width)

        self.dec = nn.ModuleDict()
        for size, mult in reversed([*zip(sizes, channel_mult, strict=True)]):
            name = f'{size}x{size}'
            if size == sizes[-1]:
                self.dec[f'{name}_in0'] = block(width, width, attention=True)
                self.dec[f'{name}_in1'] = block(width, width)
            else:
                self.dec[f'{name}_up'] = block(width, width, resample='up')
            for i in range(num_res_blocks + 1):
                attention = i == num_res_blocks and size in attention_resolutions
                joined, out = width + skips.pop(), model_channels * mult
                self.dec[f'{name}_block{i}'] = block(joined, out, attention)
                width = out
        self.dec[f'{name}_aux_norm'] = norm(width)
        self.dec[f'{name}_aux_conv'] = nn.Conv2d(width, out_channels, 3, padding=1)
        self._init_weights()

    def _init_weights(self) -> None:
        """Xavier's, as EDM starts; what ends a residual branch, or the network, starts near 0."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = 1.0
                if name.endswith(('conv1', 'proj', 'aux_conv')):
                    gain = 1e-5
                elif name.endswith('qkv'):
                    gain = math.sqrt(0.2)
                nn.init.xavier_uniform_(module.weight, gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _embed(
        self,
        c_noise: torch.Tensor,
        labels: torch.Tensor | None,
        augment_labels: torch.Tensor | None,
    ) -> torch.Tensor:
        check_conditional(self.num_classes, labels)
        # In float32, see `cast`.
        with torch.autocast(c_noise.device.type, enabled=False):
            emb = self.map_noise(c_noise.float())
            if labels is not None:
                classes = torch.arange(self.num_classes, device=labels.device)
                one_hot = (labels[:, None] == classes).float()
                emb = emb + self.map_label(one_hot * math.sqrt(self.num_classes))
            if augment_labels is not None:
                emb = emb + self.map_augment(augment_labels.float())
            emb = F.silu(self.map_layer0(emb))
            return F.silu(self.map_layer1(emb))

    def forward(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        augment_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Evaluate the network.

        Args:
            x: (N, in_channels, H, W), scaled by c_in.
            c_noise: (N,) float, ln(sigma) / 4.
            labels: (N,) int64 in 0 .. num_classes - 1, exactly where the network is conditional;
                -1: no class.
            augment_labels: (N, augment_dim), how each image was augmented; None: not at all.

        Returns:
            (N, out_channels, H, W).
        """
        x = x.to(self.dtype)
        emb = self._embed(c_noise, labels, augment_labels).to(self.dtype)
        image, skips = x, []
        for name, layer in self.enc.items():
            if name.endswith('aux_residual'):
                x = image = (x + layer(image)) * math.sqrt(0.5)
                skips[-1] = x
            else:
                is_block = isinstance(layer, SongBlock)
                x = run(layer, x, emb, self.use_checkpoint) if is_block else layer(x)
                skips.append(x)
        *blocks, last_norm, last_conv = self.dec.values()
        for block in blocks:
            if x.shape[1] != block.in_channels:
                x = torch.cat([x, skips.pop()], dim=1)
            x = run(block, x, emb, self.use_checkpoint)
        return last_conv(silu(last_norm(x)))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights of all layers but the embedding."""
        return next(iter(self.enc.values())).weight.dtype

    def cast(self, dtype: torch.dtype) -> 'SongUNet':
        """Keep the weights in half precision, for inference; the embedding stays in float32."""
        for part in (self.enc, self.dec):
            part.to(dtype)
        return self
