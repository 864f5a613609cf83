"""The hook that says before a run what it will learn from, and how long it will take."""

import time

import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...diffusion.noise import derive_seed
from ...models.consistency_model import ConsistencyModel, TrainingProgress
from ...models.statistics import LossByNoiseLevel
from ...registry import HOOKS
from .curriculum import unwrapped

# Where in what is left of the run a step is timed: its cost changes where objectives take turns.
SHARES = (1 / 6, 1 / 2, 5 / 6)
# Seconds after which what was timed so far has to do.
PATIENCE = 20


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """Log the data, the size and the expected duration of a run before it begins.

    For the duration each process takes a few steps forward and backward on noise, which leave no
    trace: no weight, gradient, random state or statistic changes.

    Args:
        measure: Take these steps.
    """

    # Before TrainingInfoHook starts its clock.
    priority = 'HIGHEST'

    def __init__(self, measure: bool = True) -> None:
        self.measure = measure

    def before_train(self, runner: Runner) -> None:
        """Measure on all processes; log on the main one."""
        if is_main_process():
            for line in describe_run(runner):
                runner.logger.info(line)
        iterations_left = runner.max_iters - runner.iter
        if self.measure and iterations_left > 0:
            seconds = iterations_left * seconds_per_iteration(runner)
            device = device_name(unwrapped(runner).device)
            runner.logger.info(
                f'Duration: about {duration(seconds)} on {device}, if the data keep up (from '
                f'forward and backward passes on noise).'
            )


def describe_run(runner: Runner) -> list[str]:
    """The data, the network and the size of the run, a line each."""
    loader, world_size = runner.train_dataloader, get_world_size()
    num_images = loader.batch_size * world_size
    lines = []
    if hasattr(loader.dataset, 'describe'):
        lines.append(f'Data: {loader.dataset.describe()}')
    parameters = sum(p.numel() for p in unwrapped(runner).denoiser.parameters())
    lines.append(f'Network: {parameters:,} parameters.')
    total = runner.max_iters * num_images
    run = f'Run: {runner.max_iters:,} iterations of {num_images:,} images'
    if world_size > 1:
        run += f' ({loader.batch_size:,} on each of {world_size} devices)'
    run += f', {total:,} images in all, {total / len(loader.dataset):,.1f} times the data set.'
    accumulated = runner.optim_wrapper._accumulative_counts
    if accumulated > 1:
        run += f' The optimizer takes a step every {accumulated} iterations.'
    if runner.iter > 0:
        run += f' It goes on after iteration {runner.iter:,}.'
    lines.append(run)
    return lines


def seconds_per_iteration(runner: Runner) -> float:
    """Mean time of a forward and backward pass over what is left of the run."""
    model, optim_wrapper = unwrapped(runner), runner.optim_wrapper
    device = model.device
    accumulated = optim_wrapper._accumulative_counts
    moments = [runner.iter + int(share * (runner.max_iters - runner.iter)) for share in SHARES]
    generator = torch.Generator().manual_seed(derive_seed(get_rank(), 'run summary'))
    batch = random_batch(model, runner.train_dataloader.batch_size, generator)
    before = model.training, model.progress, model.loss_by_noise_level
    model.train()
    model.loss_by_noise_level = LossByNoiseLevel()
    times = []
    try:
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            # The first pass takes longer: libraries load and choose their algorithms.
            for iteration in [moments[0], *moments]:
                model.progress = TrainingProgress(
                    seed=0,
                    iteration=iteration,
                    step=iteration // accumulated,
                    total_steps=max(runner.max_iters // accumulated, 1),
                )
                start = now(device)
                with optim_wrapper.optim_context(model):
                    data = model.data_preprocessor(dict(batch), True)
                    losses = model(**data, mode='loss')
                    loss, _ = model.parse_losses(losses)
                # Not `backward`: nothing is to be added to `.grad`, nor sent to other processes.
                weights = [p for p in model.parameters() if p.requires_grad]
                torch.autograd.grad(loss, weights, allow_unused=True)
                times.append(now(device) - start)
                if sum(times) > PATIENCE:
                    break
    finally:
        model.train(before[0])
        _, model.progress, model.loss_by_noise_level = before
    # The first one was not like the others, unless it is all there is.
    counted = times[1:] or times
    return sum(counted) / len(counted)


def random_batch(model: ConsistencyModel, size: int, generator: torch.Generator) -> dict:
    """What a data loader would give: uint8 (N, C, H, W) noise, and labels (N,) where needed."""
    shape = size, *model.image_shape
    batch = dict(inputs=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
    if model.num_classes is not None:
        batch['labels'] = torch.randint(0, model.num_classes, (size,), generator=generator)
    return batch


def now(device: torch.device) -> float:
    """Seconds, after all work given to the device is done."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """What a user calls the device."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'this {device.type.upper()}'


def duration(seconds: float) -> str:
    """Two units of time: '3 h 20 min'."""
    if seconds < 1:
        return 'a second'
    for unit, length, small, part in (
        ('d', 86400, 'h', 3600),
        ('h', 3600, 'min', 60),
        ('min', 60, 's', 1),
    ):
        if seconds >= length:
            whole = round(seconds / part)
            large, rest = divmod(whole, length // part)
            return f'{large} {unit} {rest} {small}' if rest else f'{large} {unit}'
    return f'{round(seconds)} s'
