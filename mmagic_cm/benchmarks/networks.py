"""What our network is compared with: the same weights, computed as others do."""

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoints.diffusers_layout import to_diffusers, unet_config
from ..networks.adm_unet import (
    ADMUNet,
    AttentionBlock,
    ResBlock,
    Stage,
    Upsample,
    timestep_embedding,
)


class _StandIn(nn.Module):
    """What a denoiser asks of its network, beside computing."""

    def __init__(self, network: ADMUNet) -> None:
        super().__init__()
        for name in ('num_classes', 'null_class', 'in_channels', 'image_size'):
            setattr(self, name, getattr(network, name))


class PlainUNet(_StandIn):
    """The arithmetic of the paper's code: float32, NCHW, attention with an explicit softmax.

    Every operation is a pass over memory of its own, as the formulas read.

    Args:
        network: Whose parameters it computes with; they become NCHW.
    """

    def __init__(self, network: ADMUNet) -> None:
        super().__init__(network)
        self.network = network.to(memory_format=torch.contiguous_format)

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As :meth:`ADMUNet.forward`."""
        net = self.network
        emb = net.time_embed(timestep_embedding(timesteps, net.model_channels))
        if labels is not None:
            emb = emb + net.label_emb(labels)
        skips = []
        h = x.contiguous()
        for stage in net.input_blocks:
            h = _stage(stage, h, emb)
            skips.append(h)
        h = _stage(net.middle_block, h, emb)
        for stage in net.output_blocks:
            h = _stage(stage, torch.cat([h, skips.pop()], dim=1), emb)
        return net.out(h)


def _stage(stage: Stage, h: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
    for layer in stage:
        if isinstance(layer, ResBlock):
            h = _res_block(layer, h, emb)
        elif isinstance(layer, AttentionBlock):
            h = _attention(layer, h)
        elif isinstance(layer, Upsample):
            h = _convolve(layer.conv, F.interpolate(h, scale_factor=2))
        else:
            h = layer(h)
    return h


def _convolve(layer: nn.Conv2d, h: torch.Tensor) -> torch.Tensor:
    return F.conv2d(h, layer.weight, layer.bias, padding=layer.padding)


def _res_block(block: ResBlock, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
    h = F.silu(block.in_layers[0](x))
    if block.resample == 'down':
        h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
    elif block.resample == 'up':
        h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
    h = block.in_layers[2](h)
    emb = block.emb_layers(emb)[:, :, None, None]
    if block.use_scale_shift_norm:
        scale, shift = emb.chunk(2, dim=1)
        h = block.out_layers[0](h) * (1 + scale) + shift
        h = block.out_layers[1:](h)
    else:
        h = block.out_layers(h + emb)
    return block.skip_connection(x) + h


def _attention(block: AttentionBlock, x: torch.Tensor) -> torch.Tensor:
    n, channels, height, width = x.shape
    heads, dim = block.num_heads, channels // block.num_heads
    qkv = block.qkv(block.norm(x)).reshape(n, 3, heads, dim, height * width)
    query, key, value = (part.reshape(n * heads, dim, -1) for part in qkv.unbind(1))
    scale = dim**-0.25
    weights = torch.einsum('bct,bcs->bts', query * scale, key * scale).softmax(dim=-1)
    h = torch.einsum('bts,bcs->bct', weights, value)
    return x + block.proj_out(h.reshape(n, channels, height, width))


class DiffusersUNet(_StandIn):
    """diffusers' ``UNet2DModel`` with the weights of our network.

    Args:
        network: Whose weights are copied.
    """

    def __init__(self, network: ADMUNet) -> None:
        super().__init__(network)
        from diffusers import UNet2DModel

        with torch.device('meta'):
            self.unet = UNet2DModel(**unet_config(network))
        weights = {k: v.contiguous() for k, v in to_diffusers(network.state_dict()).items()}
        self.unet.load_state_dict(weights, assign=True)

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As :meth:`ADMUNet.forward`."""
        return self.unet(x.to(self.unet.dtype), timesteps, class_labels=labels).sample
