"""Seconds a training step, split into its parts, against the paper's plain arithmetic."""

import copy
import gc
import statistics
from collections.abc import Iterator, Sequence

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ..apis import load_config
from ..engine.averages import EMATracker, update_ema
from ..engine.hooks.run_summary import random_batch
from ..errors import InputError
from ..models.consistency_model import PRECISIONS, ConsistencyModel, TrainingProgress
from ..models.denoiser import KarrasDenoiser
from ..objectives.consistency import StagedObjective
from ..registry import MODELS
from .costs import training_evaluations
from .networks import PlainUNet
from .rates import WITH_GRADIENT, best_rate, operations, total_flops
from .sampling import fill
from .timing import Parts, medians, peak_memory, speedups, take_turns

# Parameters, with the target network, of which two sets of everything are too much.
_LARGE = 100e6
PARTS = ('data', 'online', 'target', 'teacher', 'distance', 'backward', 'optimizer', 'EMA', 'rest')


def benchmark_training(
    config: str | Config,
    device: str | None = None,
    batch_size: int | None = None,
    precision: str = 'fp32',
    checkpointing: bool | None = None,
    compare: Sequence[str] = (),
    repeats: int = 5,
    at: float = 0.5,
) -> dict:
    """Measure steps of a config's training, from random weights.

    Args:
        config: A training config.
        device: Default: a GPU where there is one.
        batch_size: Default: the config's.
        precision: 'fp32', 'bf16' or 'fp16'.
        checkpointing: Recompute activations; None: as the config has it.
        compare: 'reference' or nothing: the same step in float32 and NCHW, with explicit softmax,
            an optimizer and averages that go from parameter to parameter, and no checkpointing.
        repeats: Measured steps, after one that is not counted. What is compared takes turns,
            unless the networks are large.
        at: Share of the run at which the step is taken: curricula and stages change its work.

    Returns:
        ``seconds`` a step and its ``parts``, ``images_per_s``, ``tflop_per_s``,
        ``share_of_best_rate``, ``peak_memory_gib`` (on a CPU of the whole process), ``data`` (where
        the batches came from), and ``speedup`` over what is compared.
    """
    unknown = sorted(set(compare) - {'reference'})
    if unknown:
        raise InputError(f'A training step is compared with reference, not with {unknown[0]!r}.')
    config = load_config(config) if isinstance(config, str) else config
    if 'train_cfg' not in config:
        raise InputError('The config is for sampling only: it has no train_cfg.')
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    device = torch.device(device)
    ours = TrainingStep(config, device, batch_size, precision, checkpointing, at)
    steps = {'ours': ours}
    # Two large ones would not fit into memory.
    together = sum(parameter.numel() for parameter in ours.model.parameters()) < _LARGE
    if compare and together:
        steps['reference'] = _plain(config, device, batch_size, at)
    rounds = _time(steps, repeats)
    figures = ours.figures(rounds['ours'])
    if not compare:
        return figures
    if not together:
        del ours, steps
        gc.collect()
        steps = {'reference': _plain(config, device, batch_size, at)}
        rounds |= _time(steps, repeats)
    figures['reference_seconds'] = medians(rounds)['reference']
    figures['reference_parts'] = steps['reference'].mean_parts(rounds['reference'])
    figures['speedup'] = {'reference (fp32)': speedups(rounds)['reference']}
    return figures


def _plain(
    config: Config, device: torch.device, batch_size: int | None, at: float
) -> 'TrainingStep':
    return TrainingStep(config, device, batch_size, 'fp32', False, at, plain=True)


def _time(steps: dict[str, 'TrainingStep'], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, in turns; a first round does not count, nor do its parts."""
    device = next(iter(steps.values())).device
    calls = {name: step.run for name, step in steps.items()}
    take_turns(calls, device, repeats=1, warmup=0, progress=False)
    for step in steps.values():
        step.parts.clear()
    return take_turns(calls, device, repeats, warmup=0)


class TrainingStep:
    """What a Runner does in an iteration, with a clock around each part."""

    def __init__(
        self,
        config: Config,
        device: torch.device,
        batch_size: int | None,
        precision: str,
        checkpointing: bool | None,
        at: float,
        plain: bool = False,
    ) -> None:
        config = copy.deepcopy(config)
        model = config.model
        model.pop('init_from', None)
        if checkpointing is not None:
            model.denoiser.network.use_checkpoint = checkpointing
        self.device, self.precision, self.plain = device, precision, plain
        self.batch_size = batch_size or config.train_dataloader.batch_size
        self.model: ConsistencyModel = MODELS.build(model)
        for denoiser in _denoisers(self.model):
            fill(denoiser.network)
        self.found = operations(self.model.denoiser.network, self.batch_size)
        if plain:
            for denoiser in _denoisers(self.model):
                denoiser.network = PlainUNet(denoiser.network)
        self.model.to(device).train()
        self.batches, self.data = _batches(config, self.model, self.batch_size)
        settings = {**config.optim_wrapper}
        accumulated = settings.pop('accumulative_counts', 1)
        for name in ('type', 'dtype', 'loss_scale'):
            settings.pop(name, None)
        kind, dtype = 'OptimWrapper', PRECISIONS[precision]
        if dtype is not None:
            kind, settings['dtype'] = 'MixedPrecisionOptimWrapper', str(dtype).split('.')[-1]
        if plain:
            settings['optimizer'] = {
                key: value
                for key, value in settings['optimizer'].items()
                if key not in ('fused', 'foreach')
            } | dict(foreach=False)
        self.optim_wrapper = build_optim_wrapper(
            self.model, dict(type=kind, _scope_='mmagic_cm', **settings)
        )
        rates = next(
            (hook['rates'] for hook in config.custom_hooks if hook['type'] == 'EMAHook'), ()
        )
        self.tracker = EMATracker(self.model.denoiser, rates) if rates else None
        total = max(config.train_cfg.max_iters // accumulated, 1)
        self.progress = TrainingProgress(
            seed=0, iteration=int(at * total), step=int(at * total), total_steps=total
        )
        self.parts = Parts(device)
        self._clock_networks()

    def _clock_networks(self) -> None:
        parts, model = self.parts, self.model

        def role() -> str:  # Some objectives compare the online network with itself.
            return 'online' if torch.is_grad_enabled() else 'target'

        model.denoiser.forward = parts.wrap(role, model.denoiser.forward)
        if model.target is not None:
            model.target.forward = parts.wrap('target', model.target.forward)
        if model.teacher is not None:
            model.teacher.forward = parts.wrap('teacher', model.teacher.forward)
        objective = model.objective
        staged = isinstance(objective, StagedObjective)
        for each in objective.objectives if staged else [objective]:
            each.prepare()
            each.distance = parts.wrap('distance', each.distance)

    def run(self) -> torch.Tensor:
        """One iteration; the loss."""
        parts, model, wrapper = self.parts, self.model, self.optim_wrapper
        with parts.measure('data'):
            batch = next(self.batches)
        model.progress = self.progress
        with wrapper.optim_context(model):
            data = model.data_preprocessor(batch, True)
            loss = model(**data, mode='loss')['loss']
        with parts.measure('backward'):
            wrapper.backward(loss)
        with parts.measure('optimizer'):
            wrapper.step()
            wrapper.zero_grad()
        with parts.measure('EMA'):
            self._average()
        return loss.detach()

    def _average(self) -> None:
        model = self.model
        online = [*model.denoiser.parameters()]
        rate = model.objective.target_ema(self.progress.step, self.progress.total_steps)
        targets = [*model.target.parameters()] if model.target is not None else []
        if not self.plain:
            if targets:
                update_ema(targets, online, rate)
            if self.tracker:
                self.tracker.update()
            return
        with torch.no_grad():
            for average, value in zip(targets, online, strict=False):
                average.mul_(rate).add_(value, alpha=1 - rate)
            for rate, averages in self.tracker.averages.items() if self.tracker else ():
                for average, value in zip(averages.values(), online, strict=True):
                    average.mul_(rate).add_(value, alpha=1 - rate)

    def mean_parts(self, seconds: Sequence[float]) -> dict[str, float]:
        """Seconds of the parts of a step, where all of them took so long."""
        parts = {name: value / len(seconds) for name, value in self.parts.seconds.items()}
        parts['rest'] = sum(seconds) / len(seconds) - sum(parts.values())
        return {name: parts[name] for name in PARTS if name in parts}

    def figures(self, seconds: Sequence[float]) -> dict:
        """What the clocks say of steps that took so long; and the best rates, measured here."""
        median = statistics.median(seconds)
        memory = peak_memory(self.device)
        when = self.progress.step, self.progress.total_steps
        evaluations = training_evaluations(self.model, *when)
        calls = evaluations['target'] + evaluations['teacher']
        device, dtype = self.device, PRECISIONS[self.precision] or torch.float32
        learning = best_rate(self.found, device, dtype, backward=True)
        passing = best_rate(self.found, device, dtype)
        return dict(
            batch_size=self.batch_size,
            precision=self.precision,
            seconds=median,
            images_per_s=self.batch_size / median,
            parts=self.mean_parts(seconds),
            data=self.data,
            peak_memory_gib=memory,
            tflop_per_s=total_flops(self.found) * (WITH_GRADIENT + calls) / median / 1e12,
            best_tflop_per_s=max(learning.best, passing.best),
            share_of_best_rate=(learning.seconds + calls * passing.seconds) / median,
        )


def _denoisers(model: ConsistencyModel) -> list[KarrasDenoiser]:
    teacher = None if model.teacher is None else model.teacher.denoiser
    return [each for each in (model.denoiser, model.target, teacher) if each is not None]


def _batches(config: Config, model: ConsistencyModel, size: int) -> tuple[Iterator[dict], str]:
    """Batches of the config's data, or of noise where that is not there; and which of them."""
    loader = {**config.train_dataloader, 'batch_size': size}
    try:
        with DefaultScope.overwrite_default_scope('mmagic_cm'):
            loader = Runner.build_dataloader(loader, seed=0)
    except InputError as error:
        batch = random_batch(model, size, torch.Generator().manual_seed(0))
        return _forever([batch]), f'noise, made once ({error})'
    return _forever(loader), f'{len(loader.dataset):,} images by {loader.num_workers} workers'


def _forever(batches) -> Iterator[dict]:
    while True:
        yield from batches
