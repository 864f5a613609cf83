"""A tiny model on the digits, trained by MMEngine's own Runner."""

import copy
import functools
import json
import math
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmagic_cm.apis import load_config
from mmagic_cm.datasets import digits
from mmagic_cm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs/consistency_models'
TINY = {
    'model.denoiser.network.model_channels': 8,
    'model.denoiser.network.channel_mult': (1,),
    'model.denoiser.network.norm_groups': 4,
    'train_dataloader.batch_size': 8,
    'default_hooks.logger.interval': 2,
    'log_level': 'ERROR',
}
# `total_steps` is 8 in most tests: the curricula go through several stages of them.
OBJECTIVES = dict(
    edm=dict(type='DenoisingScoreMatching'),
    ct=dict(
        type='ConsistencyTraining',
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=40, start_ema=0.9),
    ),
    ict=dict(
        type='ImprovedConsistencyTraining',
        curriculum=dict(type='DoublingCurriculum', start_scales=4, end_scales=16),
    ),
    cd=dict(
        type='ConsistencyDistillation',
        curriculum=dict(type='FixedCurriculum', target_ema=0.9, num_scales=6),
    ),
    # Stages of 1, 2 and 2 steps: the last one begins at 3.
    pd=dict(
        type='ProgressiveDistillation',
        curriculum=dict(type='HalvingCurriculum', start_scales=4, steps_per_stage=1),
    ),
    sct=dict(type='ContinuousConsistencyTraining', warmup_steps=4),
    scd=dict(type='ContinuousConsistencyDistillation', warmup_steps=4),
    ect=dict(
        type='StagedObjective',
        stages=[
            (0.5, dict(type='DenoisingScoreMatching')),
            (1.0, dict(type='EasyConsistencyTuning')),
        ],
    ),
    # Stages of 2, 2, 2 and 2 steps, each of which hands its average on.
    stages=dict(
        type='StagedObjective',
        stages=[
            (0.25, dict(type='DenoisingScoreMatching')),
            (0.5, dict(type='ConsistencyMidTraining', distance='l2', num_steps=4)),
            (0.75, dict(type='EasyConsistencyTuning', q=4096, num_stages=1, c=0)),
            (1.0, dict(type='TruncatedConsistencyTraining')),
        ],
    ),
)


read_config = functools.cache(load_config)
read_digits = functools.cache(digits.load_digits)


@pytest.fixture(autouse=True)
def fast_start(monkeypatch):
    """Do once what every Runner does in tenths of a second."""
    monkeypatch.setattr(digits, 'load_digits', read_digits)
    # Formatting a config takes yapf 0.2 s, each time that one is saved.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))


@pytest.fixture
def trainer(tmp_path) -> Callable[..., Runner]:
    """Build a Runner; arguments say what differs from a small run of 8 iterations."""

    def build(objective='ict', *hooks, work_dir='run', max_iters=8, custom_hooks=None, **options):
        cfg = copy.deepcopy(read_config(CONFIGS / 'edm_1xb96-digits-8x8.py'))
        cfg.merge_from_dict(TINY)
        named = isinstance(objective, str)
        cfg.model.objective = OBJECTIVES[objective] if named else objective
        cfg.train_cfg.max_iters = max_iters
        cfg.custom_hooks = [dict(type='CurriculumHook'), dict(type='EMAHook', rates=(0.5, 0.9))]
        cfg.custom_hooks += custom_hooks or []
        # MMEngine's logs and message hubs are global, by this name.
        cfg.experiment_name = uuid.uuid4().hex
        cfg.work_dir = str(tmp_path / work_dir)
        if objective in ('sct', 'scd'):  # of ADM's own c_noise they learn nothing
            cfg.model.denoiser.c_noise = 'trigflow'
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        if objective in ('cd', 'pd', 'scd'):
            cfg.model.teacher = dict(checkpoint=str(tmp_path / 'teacher.pth'))
            cfg.model.init_from = 'teacher'
            save_teacher(cfg.model.denoiser, tmp_path / 'teacher.pth')
        if objective == 'stages':
            cfg.model.teacher = dict(from_stage=True)
            cfg.custom_hooks = [*cfg.custom_hooks, dict(type='StageHook')]
        if objective == 'pd':
            cfg.param_scheduler = None
            cfg.custom_hooks = [*cfg.custom_hooks, dict(type='ProgressiveDistillationHook')]
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook, priority='LOWEST')
        return runner

    return build


def save_teacher(denoiser: dict, path: Path) -> None:
    """Random weights that fit a denoiser, the same each time."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='ConsistencyModel', denoiser=copy.deepcopy(denoiser)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(model.state_dict(), path)


class AfterEach(Hook):
    """Keep what ``look(runner, batch, outputs)`` returns after each iteration."""

    def __init__(self, look: Callable) -> None:
        self.look = look
        self.seen: list = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(self.look(runner, data_batch, outputs))


class AtStart(AfterEach):
    """Keep what ``look(runner)`` returns once all other hooks have begun."""

    def before_train(self, runner):
        self.seen.append(self.look(runner))

    def after_train_iter(self, *args, **settings):
        pass


class Poison(Hook):
    """Spoil a weight after so many iterations, as a diverging step does."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            next(runner.model.denoiser.parameters()).data.fill_(math.nan)


class Interrupt(Hook):
    """A user's Ctrl-C after so many iterations."""

    priority = 'VERY_LOW'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


class SendSignal(Hook):
    """Send this process a signal as an iteration begins, the first one being 1."""

    def __init__(self, number: int, iteration: int) -> None:
        self.number = number
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope='session')
def send_signal() -> type[SendSignal]:
    return SendSignal


@pytest.fixture(scope='session')
def validation() -> Callable[..., dict]:
    """Options of a run that judges so many samples by a metric, while it trains or by a test."""

    def options(evaluator: dict, num_samples: int, batch_size: int = 4, when: str = 'val') -> dict:
        loader = dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='DigitsDataset',
                split='test',
                indices=num_samples,
                pipeline=[dict(type='PackImage')],
            ),
        )
        return {
            'model__sampler': dict(type='OnestepSampler', _delete_=True),
            f'{when}_cfg': dict(type=f'{when.capitalize()}Loop'),
            f'{when}_dataloader': loader,
            f'{when}_evaluator': evaluator,
        }

    return options


@pytest.fixture(scope='session')
def interrupt() -> type[Interrupt]:
    return Interrupt


@pytest.fixture(scope='session')
def poison() -> type[Poison]:
    return Poison


@pytest.fixture(scope='session')
def after_each() -> type[AfterEach]:
    return AfterEach


@pytest.fixture(scope='session')
def at_start() -> type[AtStart]:
    return AtStart


@pytest.fixture(scope='session')
def snapshot() -> Callable:
    """Copy the state of a module."""
    return lambda module: {name: t.detach().clone() for name, t in module.state_dict().items()}


@pytest.fixture(scope='session')
def read_log() -> Callable[[Runner], list[dict]]:
    """Read the JSON lines that a run has logged."""

    def read(runner: Runner) -> list[dict]:
        text = (Path(runner.log_dir) / 'vis_data/scalars.json').read_text()
        return [json.loads(line) for line in text.splitlines()]

    return read
