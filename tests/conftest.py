"""What several tests share: reference numbers, a Gaussian, and small models."""

import importlib.util
import itertools
import os
import signal
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import base_dataset
from torch import nn

from mmagic_cm.models import ConsistencyModel
from mmagic_cm.objectives import DenoisingScoreMatching
from mmagic_cm.registry import MODELS

DATA = Path(__file__).parent / 'data'
ROOT = Path(__file__).parents[1]
TINY = dict(
    type='ADMUNet',
    image_size=8,
    in_channels=1,
    out_channels=1,
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    num_classes=10,
)


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and sums come in the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Of processes that tests start, too: two of two threads wait for each other on two cores.
    os.environ['OMP_NUM_THREADS'] = '1'
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session', autouse=True)
def no_garbage_collection():
    """MMEngine collects garbage when it serializes a data list, for 0.2 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_dataset, 'gc', SimpleNamespace(collect=lambda: None))
        yield


@pytest.fixture
def in_child():
    """Run a function in a forked process, and fail where it fails.

    For what uses torch's fake tensors, as torch.compile does: afterwards autograd refuses to work
    in forked processes, which other tests start.
    """

    def run(function: Callable[[], None]) -> None:
        child = os.fork()
        if child == 0:
            try:
                function()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return run


@pytest.fixture
def in_processes(tmp_path) -> Callable[..., list[int]]:
    """Run ``work(rank)`` in forked processes that find each other by gloo; their exit codes."""
    meetings = itertools.count()

    def run(count: int, work: Callable[[int], None]) -> list[int]:
        meeting, children = f'file://{tmp_path}/.meeting{next(meetings)}', []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                try:
                    os.environ |= dict(RANK=f'{rank}', LOCAL_RANK=f'{rank}', WORLD_SIZE=f'{count}')
                    if count > 1:
                        dist.init_process_group('gloo', meeting, rank=rank, world_size=count)
                    work(rank)
                except BaseException as error:
                    print(f'rank {rank}: {type(error).__name__}: {error}', file=sys.stderr)
                    os._exit(1)
                os._exit(0)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    return run


@pytest.fixture(scope='session')
def load_script() -> Callable[[str], ModuleType]:
    """Load a script of the repository, by its path there, or a module of the package."""

    def load(name: str) -> ModuleType:
        if not name.endswith('.py'):
            return importlib.import_module(name)
        path = ROOT / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script

    return load


@pytest.fixture
def run_script(load_script, monkeypatch, capsys) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run a script in this process: its exit code, what it prints, its sentence.

    Keywords replace what the script calls by that name.
    """

    def run(name: str, *args, **replace) -> tuple[int, str, str]:
        script = load_script(name)
        for attribute, value in replace.items():
            monkeypatch.setattr(script, attribute, value)
        monkeypatch.setattr(sys, 'argv', [Path(name).name, *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            script.run_cli(script.main)
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    handlers = {number: signal.getsignal(number) for number in (1, 2, 15)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def seed():
    """A test that draws from the global generator draws the same each time."""
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def data() -> Path:
    return DATA


@pytest.fixture(scope='session')
def goldens() -> Callable[[str], dict]:
    """Read reference numbers: arrays as tensors, texts as arrays."""

    def read(name: str) -> dict:
        with np.load(DATA / 'goldens' / f'{name}.npz') as arrays:
            return {
                key: array if array.dtype.kind == 'U' else torch.from_numpy(array)
                for key, array in arrays.items()
            }

    return read


def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network the weights that the reference numbers were made with (no layer is zero)."""
    weights = {}
    for name, old in network.state_dict().items():
        if name.endswith('resample_filter'):
            weights[name] = old
            continue
        stream = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        new = stream.standard_normal(tuple(old.shape))
        if old.ndim > 1:
            new = new * 0.7 / np.sqrt(old[0].numel())
        elif name.endswith('freqs'):
            new = 16 * new
        else:
            new = 0.1 * new + (1 if name.endswith('.weight') else 0)
        weights[name] = torch.from_numpy(new.astype(np.float32))
    network.load_state_dict(weights)
    return network


@pytest.fixture(scope='session', name='fill')
def _fill() -> Callable:
    return fill


@MODELS.register_module(force=True)
class LearnsWithTheModel(DenoisingScoreMatching):
    """An objective that learns how large its losses are."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.log_variance = nn.Linear(1, 1)

    def forward(self, online, x0, draw, labels=None, **roles):
        losses = super().forward(online, x0, draw, labels, **roles)
        log_variance = self.log_variance(draw.sigma.log()[:, None])[:, 0]
        return losses / log_variance.exp() + log_variance


@pytest.fixture(scope='session')
def tiny_config() -> Callable[..., dict]:
    """The config of a class-conditional model of 8 x 8 gray images; arguments change it."""

    def config(network: dict | None = None, parameterization: str = 'consistency', **settings):
        network = {**TINY, **(network or {})}
        denoiser = dict(
            type='KarrasDenoiser', parameterization=parameterization, network=dict(network)
        )
        return dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser, **settings)

    return config


@pytest.fixture(scope='session')
def build_model(tiny_config) -> Callable[..., ConsistencyModel]:
    """Build such a model with random weights, in eval mode; the target equals the network."""

    def build(*args, seed: int = 0, **settings) -> ConsistencyModel:
        model = MODELS.build(tiny_config(*args, **settings))
        fill(model.denoiser.network, seed)
        if model.target is not None:
            model.target.load_state_dict(model.denoiser.state_dict())
        return model.eval()

    return build


@pytest.fixture
def model(build_model) -> ConsistencyModel:
    return build_model()


@pytest.fixture(scope='session')
def equal() -> Callable[[object, object], bool]:
    """Compare nested dicts and lists with tensors in them, to the last bit."""

    def same(a, b) -> bool:
        if torch.is_tensor(a):
            return torch.is_tensor(b) and a.dtype == b.dtype and torch.equal(a, b)
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list | tuple):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b

    return same


@dataclass(frozen=True)
class Gaussian:
    """Data x0 ~ N(mean, variance I), for which everything has a closed form, in float64."""

    mean: float = 0.3
    variance: float = 0.25

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, labels=None) -> torch.Tensor:
        """The posterior mean of x0 given x = x0 + sigma z."""
        sigma = sigma.to(x.dtype).reshape(-1, 1, 1, 1)
        gain = self.variance / (self.variance + sigma**2)
        return self.mean + gain * (x - self.mean)

    def flow(self, x: torch.Tensor, sigma, end) -> torch.Tensor:
        """Where the PF-ODE takes x from level sigma to level end."""
        sigma, end = (
            torch.as_tensor(level, dtype=x.dtype).reshape(-1, 1, 1, 1) for level in (sigma, end)
        )
        shrink = ((self.variance + end**2) / (self.variance + sigma**2)).sqrt()
        return self.mean + shrink * (x - self.mean)


@pytest.fixture(scope='session')
def gaussian() -> Gaussian:
    return Gaussian()
