"""Images a second, of our network and of others with the same weights."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.config import Config
from torch import nn

from ..apis import init_model
from ..errors import InputError
from ..models.consistency_model import PRECISIONS, ConsistencyModel
from .costs import sampling_evaluations
from .networks import DiffusersUNet, PlainUNet
from .rates import best_rate, operations, total_flops
from .timing import medians, peak_memory, speedups, take_turns

COMPARED = ('reference', 'diffusers')


def benchmark_sampling(
    config: str | Config,
    checkpoint: str | None = None,
    device: str | None = None,
    batch_size: int = 4,
    precision: str = 'fp32',
    compile: bool | str = False,
    compare: Sequence[str] = (),
    repeats: int = 5,
) -> dict:
    """Measure the model's own sampler.

    Args:
        config: As of :func:`~mmagic_cm.apis.init_model`.
        checkpoint: Weights; None: random ones, which take as long.
        device: Default: a GPU where there is one.
        batch_size: Images at a time.
        precision: 'fp32', 'bf16' or 'fp16'.
        compile: As of ``init_model``.
        compare: 'reference': the paper's arithmetic in float32; 'diffusers': its UNet2DModel, in
            this precision as it comes, and in channels_last.
        repeats: Measured rounds; all that is compared takes turns in each.

    Returns:
        ``seconds`` a batch, ``images_per_s``, ``speedup`` (how many times as fast ours is),
        ``difference`` (the largest one of an output from ours), ``peak_memory_gib`` (of ours; on a
        CPU of the whole process), ``tflop_per_s``, and
        ``share_of_best_rate``: the time of the network's convolutions and attentions, each alone
        and in its best layout, over that of the network.
    """
    unknown = sorted(set(compare) - set(COMPARED))
    if unknown:
        raise InputError(f'Compared with is {" or ".join(COMPARED)}, not {unknown[0]!r}.')
    model = _build(config, checkpoint, device, precision, compile)
    labels = None if model.num_classes is None else torch.arange(batch_size) % model.num_classes
    model.sample(range(batch_size), labels)
    memory = peak_memory(model.device)
    # The weights before they were rounded, for those who compute in another precision.
    whole = model
    if compile or precision != 'fp32':
        whole = _build(config, checkpoint, device, 'fp32', False)
    others = {name: part for kind in compare for name, part in _others(kind, whole, precision)}
    calls = {'ours': partial(model.sample, range(batch_size), labels)}
    for name, network in others.items():
        calls[name] = partial(_draw, model, network, range(batch_size), labels)
    rounds = take_turns(calls, model.device, repeats)
    seconds = medians(rounds)
    difference = {name: _difference(model, network) for name, network in others.items()}
    found = operations(whole.denoiser.network, batch_size)
    evaluations = sampling_evaluations(model)
    flops = total_flops(found) * evaluations
    best = best_rate(found, model.device, PRECISIONS[precision] or torch.float32)
    ours = seconds['ours']
    return dict(
        batch_size=batch_size,
        precision=precision,
        compile=compile,
        evaluations=evaluations,
        peak_memory_gib=memory,
        gflop_per_image=flops / batch_size / 1e9,
        seconds=seconds,
        images_per_s={name: batch_size / value for name, value in seconds.items()},
        speedup=speedups(rounds),
        difference=difference,
        tflop_per_s=flops / ours / 1e12,
        best_tflop_per_s=best.best,
        share_of_best_rate=best.seconds * evaluations / ours,
    )


def _build(
    config: str | Config,
    checkpoint: str | None,
    device: str | None,
    precision: str,
    compile: bool | str,
) -> ConsistencyModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = init_model(config, checkpoint, device, precision, compile=compile)
        if checkpoint is None:
            fill(model.denoiser.network)
    return model


def fill(network: nn.Module) -> None:
    """Give the layers that start at zero small weights, so that the whole network computes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)


def _others(kind: str, model: ConsistencyModel, precision: str) -> list[tuple[str, nn.Module]]:
    network = model.denoiser.network
    if kind == 'reference':
        return [('reference (fp32)', PlainUNet(copy.deepcopy(network)).eval())]
    dtype = PRECISIONS[precision] or torch.float32
    theirs = DiffusersUNet(network).eval().to(dtype)
    last = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
    return [
        (f'diffusers ({precision})', theirs),
        (f'diffusers ({precision}, channels_last)', last),
    ]


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
    own: Callable = model.denoiser.network
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *model.image_shape, generator=generator).to(model.device)
    timesteps = torch.full((1,), 500.0, device=model.device)
    labels = None if model.num_classes is None else torch.ones_like(timesteps, dtype=torch.int64)
    with torch.inference_mode():
        ours, theirs = own(x, timesteps, labels).float(), network(x, timesteps, labels).float()
    return float((ours - theirs).abs().max() / ours.abs().max())
