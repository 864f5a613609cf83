"""A model and the metrics of its config: the Runner that draws and judges."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..apis import init_model, load_config
from ..checkpoints import find_released
from ..cli import join_processes
from ..datasets.settings import merge_options
from ..engine.hooks.curriculum import unwrapped
from ..engine.runner import Runner
from ..errors import InputError
from ..metrics.inception import InceptionFeatures
from ..registry import DATASETS
from ..sampling.loop import check_seed
from .generative_metrics import GenerativeMetrics
from .report import CAVEAT


def judging_runner(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    ema: str | float | None = 'auto',
    work_dir: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    launcher: str = 'none',
    *,
    sampler: Mapping[str, Any] | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    precision: str = 'fp32',
    progress: bool = True,
) -> Runner:
    """A Runner whose ``test()`` draws with a model and returns the figures of its config.

    The reference is read once, so it may be called again: after a change of ``model.sampler``, for
    example.

    Args:
        config: As :func:`~mmagic_cm.apis.init_model` takes it, with a ``test_evaluator``.
        checkpoint: A file of weights, 'auto' (the config's own), or None for fresh ones.
        ema: Which weights of a training checkpoint, see :func:`~mmagic_cm.apis.init_model`.
        work_dir: Of the log; default: work_dirs/NAME_OF_CONFIG.
        options: Settings by dotted path that override the config's.
        launcher: Of the processes that share the work: 'none', 'pytorch', 'slurm' or 'mpi'.
        sampler: Config of a sampler; default: the config's own.
        num_samples: Images to draw; default: what the config says.
        seed: Of the set of images, and of the labels of ``SampleNumbers``.
        precision: 'fp32', 'bf16' or 'fp16', see :func:`~mmagic_cm.apis.init_model`.
        progress: Show a bar.

    Raises:
        InputError: The config names no metrics, or the checkpoint does not fit.
    """
    cfg = copy.deepcopy(config) if isinstance(config, Config) else load_config(config)
    merge_options(cfg, dict(options or {}))
    missing = [
        name for name in ('test_evaluator', 'test_dataloader', 'test_cfg') if cfg.get(name) is None
    ]
    name = cfg.filename or config
    if missing:
        raise InputError(f'{name} names no metrics: it has no {missing[0]}.')
    if num_samples is not None:
        _limit(cfg.test_dataloader.dataset, num_samples)
    seed = check_seed(seed)
    if cfg.test_dataloader.dataset.type == 'SampleNumbers':
        cfg.test_dataloader.dataset.seed = seed
    if sampler is not None:
        cfg.model.sampler = dict(sampler)
    join_processes(launcher)
    # Processes may share a GPU, or have none.
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    model = init_model(cfg, checkpoint, precision=precision, ema=ema)
    model.sampling_seed = seed
    return Runner(
        model=model,
        work_dir=str(work_dir or Path('work_dirs') / Path(name).stem),
        test_dataloader=cfg.test_dataloader,
        test_evaluator=cfg.test_evaluator,
        test_cfg=cfg.test_cfg,
        custom_hooks=[dict(type='ProgressBarHook')] if progress else None,
        launcher=launcher,
        env_cfg=cfg.get('env_cfg', {}),
        log_level=cfg.get('log_level', 'WARNING'),
        log_processor=cfg.get('log_processor'),
        visualizer=cfg.get('visualizer'),
        default_scope='mmagic_cm',
        randomness=cfg.get('randomness', dict(seed=0)),
        experiment_name=cfg.get('experiment_name'),
        cfg=cfg,
    )


def _limit(dataset: dict, num_samples: int) -> None:
    """Let the data set of a test have so many entries."""
    if type(num_samples) is not int or num_samples < 1:
        raise InputError(f'The number of samples must be at least 1, not {num_samples!r}.')
    if dataset['type'] == 'SampleNumbers':
        dataset['num_samples'] = num_samples
        return
    # MMEngine's: the first so many entries of a BaseDataset.
    dataset['indices'] = num_samples
    found = len(DATASETS.build({**dataset, 'pipeline': []}))
    if found < num_samples:
        raise InputError(
            f'One image is drawn for each entry of the test set, and {dataset["type"]} has '
            f"{found:,}: {num_samples:,} take a test_dataloader.dataset of type 'SampleNumbers'."
        )


def published(runner: Runner) -> dict[str, float]:
    """The paper's figures for as many network evaluations as the runner's sampler takes."""
    num_evaluations = unwrapped(runner).sampler.num_evaluations
    found: dict[str, float] = {}
    for metric in _generative_metrics(runner):
        for figures in metric.paper:
            if figures.get('num_evaluations') == num_evaluations:
                found |= figures
    # A config cannot have a key 'is': MMEngine writes keys as names of arguments.
    names = {name: 'is' if name == 'inception_score' else name for name in found}
    return {names[name]: value for name, value in found.items() if name != 'num_evaluations'}


def describe_judging(runner: Runner, checkpoint: str | Path | None) -> dict[str, Any]:
    """What the figures of a finished test depend on, for a report."""
    model = unwrapped(runner)
    about: dict[str, Any] = {
        'checkpoint': str(checkpoint),
        'sampler': str(model.sampler),
        'network evaluations': model.sampler.num_evaluations,
        'seed': model.sampling_seed,
        'precision': model.precision,
    }
    for metric in _generative_metrics(runner):
        about |= metric.about
    return about


def caveats(runner: Runner, checkpoint: str | Path | None) -> list[str]:
    """What to know when the figures are compared with those of other models."""
    by_inception = any(
        isinstance(metric.extractor, InceptionFeatures) for metric in _generative_metrics(runner)
    )
    return [CAVEAT] if by_inception and _is_lpips_trained(runner.cfg, checkpoint) else []


def _generative_metrics(runner: Runner) -> list[GenerativeMetrics]:
    metrics = runner.test_evaluator.metrics
    return [metric for metric in metrics if isinstance(metric, GenerativeMetrics)]


def _is_lpips_trained(cfg: Config, checkpoint: str | Path | None) -> bool:
    """Whether LPIPS is in the objective, or a released checkpoint was trained with it."""
    if 'objective' in cfg.model:
        return 'lpips' in set(_distances(cfg.model.objective))
    released = find_released(str(checkpoint)) or find_released(str(cfg.get('load_from')))
    # The paper's consistency training (ct_*) is with LPIPS throughout.
    return released is not None and re.search(r'lpips|^ct_', released.name) is not None


def _distances(objective: Any):
    """The names of all distances in the config of an objective."""
    if isinstance(objective, Mapping):
        for key, value in objective.items():
            if key == 'distance':
                yield value.get('type') if isinstance(value, Mapping) else value
            else:
                yield from _distances(value)
    elif isinstance(objective, list | tuple):
        for item in objective:
            yield from _distances(item)
