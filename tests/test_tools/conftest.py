"""What the tests of several commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmagic_cm.apis import init_model
from mmagic_cm.models import ConsistencyModel


@pytest.fixture(scope='session')
def untrained() -> Callable[..., ConsistencyModel]:
    """Build the model of a config with random weights, whose last layer is not zero."""

    def build(config: Path, seed: int = 0) -> ConsistencyModel:
        torch.manual_seed(seed)
        model = init_model(config)
        torch.nn.init.normal_(model.denoiser.network.out[2].weight, std=0.1)
        return model

    return build


@pytest.fixture(scope='session')
def tiny_options() -> Callable[[dict], list[str]]:
    """What makes a training tiny and silent, on the command line; settings are added to it."""
    tiny = {
        'model.denoiser.network.model_channels': 8,
        'train_dataloader.batch_size': 8,
        'default_hooks.logger.interval': 5,
        'custom_hooks.2.num_columns': 1,
        'log_level': 'ERROR',
    }
    return lambda settings: [
        '--cfg-options',
        *(f'{key}={value}' for key, value in (tiny | settings).items()),
    ]


@pytest.fixture
def refusal(run_script) -> Callable[..., str]:
    """Run a command that refuses what it is told: its one line, but for warnings."""

    def run(*args) -> str:
        code, _, said = run_script(*args)
        assert code == 1
        [line] = [line for line in said.splitlines() if not line.startswith('warning: ')]
        assert line.startswith('error: ')
        return line

    return run
