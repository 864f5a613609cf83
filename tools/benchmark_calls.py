"""What ``tools/benchmark.py`` measures: sampling and training, ours and what they compare to."""

import argparse
import copy
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from mmagic_cm.apis import init_model
from mmagic_cm.checkpoints.diffusers_layout import to_diffusers, unet_config
from mmagic_cm.datasets.settings import fill_num_classes
from mmagic_cm.engine.averages import update_ema
from mmagic_cm.errors import InputError
from mmagic_cm.models.consistency_model import PRECISIONS, ConsistencyModel, TrainingProgress
from mmagic_cm.networks.adm_unet import (
    ADMUNet,
    AttentionBlock,
    Layers,
    ResBlock,
    Upsample,
    timestep_embedding,
)
from mmagic_cm.registry import MODELS

Calls = dict[str, Callable[[], object]]


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
        for layers in net.input_blocks:
            h = _layers(layers, h, emb)
            skips.append(h)
        h = _layers(net.middle_block, h, emb)
        for layers in net.output_blocks:
            h = _layers(layers, torch.cat([h, skips.pop()], dim=1), emb)
        return net.out(h)


def _layers(layers: Layers, h: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
    for layer in layers:
        if isinstance(layer, ResBlock):
            h = _res_block(layer, h, emb)
        elif isinstance(layer, AttentionBlock):
            h = _attention(layer, h)
        elif isinstance(layer, Upsample):
            conv, h = layer.conv, F.interpolate(h, scale_factor=2)
            h = F.conv2d(h, conv.weight, conv.bias, padding=conv.padding)
        else:
            h = layer(h)
    return h


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


def fill(network: nn.Module) -> None:
    """Give the layers that start at zero small weights, so that the whole network computes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)


def sampling(args: argparse.Namespace, config: Config) -> tuple[Calls, dict]:
    """What draws a batch, by name, and what is known before it is measured."""
    model = _build(args, config, args.precision, args.compile)
    # The weights before they were rounded, for those who compute in another precision.
    whole = model
    if args.compile or args.precision != 'fp32':
        whole = _build(args, config, 'fp32')
    n = args.batch_size or 4
    labels = None if model.num_classes is None else torch.arange(n) % model.num_classes
    others = {name: made for kind in args.compare for name, made in _others(kind, whole, args)}
    calls = {'ours': partial(model.sample, range(n), labels)}
    calls |= {
        name: partial(_draw, model, network, range(n), labels) for name, network in others.items()
    }
    first = None if labels is None else labels[:1]
    return calls, dict(
        batch_size=n,
        tflop=n * count_flops(partial(whole.sample, range(1), first)) / 1e12,
        difference={name: _difference(model, network) for name, network in others.items()},
    )


def _build(
    args: argparse.Namespace, config: Config, precision: str, compile: bool | str = False
) -> ConsistencyModel:
    torch.manual_seed(0)
    model = init_model(config, None, args.device, precision, compile=compile)
    fill(model.denoiser.network)
    return model


def _others(
    kind: str, model: ConsistencyModel, args: argparse.Namespace
) -> list[tuple[str, nn.Module]]:
    network = model.denoiser.network
    if kind == 'reference':
        return [('reference (fp32)', PlainUNet(copy.deepcopy(network)).eval())]
    theirs = DiffusersUNet(network).eval().to(PRECISIONS[args.precision] or torch.float32)
    last = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
    name = f'diffusers ({args.precision}'
    return [(f'{name})', theirs), (f'{name}, channels_last)', last)]


def _draw(
    model: ConsistencyModel, network: nn.Module, indices: range, labels: torch.Tensor | None
) -> torch.Tensor:
    """One batch, through a network in the place of the model's own."""
    own, precision = model.denoiser.network, model.precision
    # It computes in the type of its weights.
    model.denoiser.network, model.precision = network, 'fp32'
    try:
        return model.sample(indices, labels)
    finally:
        model.denoiser.network, model.precision = own, precision


def _difference(model: ConsistencyModel, network: nn.Module) -> float:
    """The largest difference of the outputs F of two networks, over the largest output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *model.image_shape, generator=generator).to(model.device)
    timesteps = torch.full((1,), 500.0, device=model.device)
    labels = None if model.num_classes is None else torch.ones_like(timesteps, dtype=torch.int64)
    with torch.inference_mode():
        ours, theirs = (
            each(x, timesteps, labels).float() for each in (model.denoiser.network, network)
        )
    return float((ours - theirs).abs().max() / ours.abs().max())


def training(args: argparse.Namespace, config: Config) -> tuple[Calls, dict]:
    """What takes a step, by name, and what is known before it is measured."""
    if args.compile or 'diffusers' in args.compare:
        raise InputError('--compile and --compare diffusers are for --what sample.')
    if 'train_cfg' not in config:
        raise InputError(f'{args.config} is for sampling only: it has no train_cfg.')
    fill_num_classes(config)
    batch_size = args.batch_size or config.train_dataloader.batch_size
    shared = dict(batch_size=batch_size, device=args.device, at=args.at)
    step = TrainingStep(config, args.precision, **shared)
    # Counted of one image: the plain attention of the count takes memory.
    batch, step.batch = step.batch, {key: value[:1] for key, value in step.batch.items()}
    tflop = batch_size * count_flops(step) / 1e12
    step.batch = batch
    calls = {'ours': step}
    if args.compare:
        calls['reference (fp32)'] = TrainingStep(config, 'fp32', plain=True, **shared)
    return calls, dict(batch_size=batch_size, tflop=tflop, difference={})


class TrainingStep:
    """What a Runner does in an iteration, from random weights, with noise for images.

    Args:
        config: A training config.
        precision: 'fp32', 'bf16' or 'fp16'.
        batch_size: Images of a step.
        device: Where.
        at: Share of the run at which the step is: curricula and stages change its work.
        plain: Compute as the paper's code does, with an optimizer and averages that go from
            parameter to parameter.
    """

    def __init__(
        self,
        config: Config,
        precision: str,
        batch_size: int,
        device: torch.device,
        at: float,
        plain: bool = False,
    ) -> None:
        self.plain = plain
        self.model = model = MODELS.build({**config.model, 'init_from': None})
        model.objective.prepare()
        teacher = None if model.teacher is None else model.teacher.denoiser
        for denoiser in (model.denoiser, model.target, teacher):
            if denoiser is not None:
                fill(denoiser.network)
                if plain:
                    denoiser.network = PlainUNet(denoiser.network)
        model.to(device).train()
        steps = config.train_cfg.max_iters
        now = int(at * steps)
        model.progress = TrainingProgress(seed=0, iteration=now, step=now, total_steps=steps)
        self.optim_wrapper = self._build_optim_wrapper(config, PRECISIONS[precision])
        self.online = [*model.denoiser.parameters()]
        hook = next((each for each in config.custom_hooks if each['type'] == 'EMAHook'), {})
        self.averages = [[p.detach().clone() for p in self.online] for _ in hook.get('rates', ())]
        if model.target is not None:
            self.averages.append([*model.target.parameters()])
        generator = torch.Generator().manual_seed(0)
        shape = batch_size, *model.image_shape
        self.batch = dict(inputs=torch.randint(256, shape, dtype=torch.uint8, generator=generator))
        if model.num_classes is not None:
            self.batch['labels'] = torch.arange(batch_size) % model.num_classes

    def _build_optim_wrapper(self, config: Config, dtype: torch.dtype | None):
        # As of a run of this precision that takes a step in each iteration.
        left_out = 'type', 'dtype', 'loss_scale', 'accumulative_counts'
        settings = {k: v for k, v in config.optim_wrapper.items() if k not in left_out}
        settings['type'] = 'OptimWrapper'
        if dtype is not None:
            settings['type'] = 'MixedPrecisionOptimWrapper'
            settings['dtype'] = str(dtype).removeprefix('torch.')
        if self.plain:
            optimizer = {k: v for k, v in settings['optimizer'].items() if k != 'fused'}
            settings['optimizer'] = {**optimizer, 'foreach': False}
        with DefaultScope.overwrite_default_scope('mmagic_cm'):
            return build_optim_wrapper(self.model, settings)

    def __call__(self) -> torch.Tensor:
        """One iteration; the loss."""
        with self.optim_wrapper.optim_context(self.model):
            data = self.model.data_preprocessor(dict(self.batch), True)
            loss = self.model(**data, mode='loss')['loss']
        self.optim_wrapper.update_params(loss)
        for averages in self.averages:
            if self.plain:
                with torch.no_grad():
                    for average, value in zip(averages, self.online, strict=True):
                        average.mul_(0.99).add_(value, alpha=0.01)
            else:
                update_ema(averages, self.online, 0.99)  # All rates take the same time.
        return loss.detach()


def count_flops(call: Callable[[], object]) -> int:
    """Of all convolutions and matrix products of a call; a multiply-add is two."""
    # The counter knows attention as matrix products, not as each device's fused operation.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def take_turns(calls: Mapping[str, Callable], device: torch.device, repeats: int) -> dict:
    """Seconds of each call, round by round; a first round does not count.

    A drift of the machine hits all that take turns.
    """

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds = defaultdict(list)
    with tqdm(total=(1 + repeats) * len(calls), desc='measuring') as bar:
        for turn in range(1 + repeats):
            for name, call in calls.items():
                start = now()
                call()
                if turn:
                    seconds[name].append(now() - start)
                bar.update()
    return dict(seconds)


def speedups(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """How many times as fast ours is as each other: medians of the rounds' ratios."""
    return {
        name: statistics.median(b / a for a, b in zip(seconds['ours'], values, strict=True))
        for name, values in seconds.items()
        if name != 'ours'
    }


def machine(device: torch.device) -> str:
    """Where the figures come from."""
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
        name = capabilities.get('cpu_name') or platform.processor() or platform.machine()
        special = [key for key in ('avx512_f', 'avx512_bf16', 'amx_bf16') if capabilities.get(key)]
        name = f'{name}, {torch.get_num_threads()} threads ({", ".join(special) or "no AVX-512"})'
    return f'{name}; torch {torch.__version__}'
