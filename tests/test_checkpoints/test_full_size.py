"""A made-up file with the full layout of ImageNet 64 x 64, through the real inference config."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/consistency_models/consistency_models_8xb256-imagenet1k-onestep-64x64.py'
SCRIPT = """
import resource, sys, time
begin = time.time()
from mmagic_cm.apis import generate, init_model
imported = time.time()
model = init_model(sys.argv[1], 'auto', 'cpu')
loaded = time.time()
images, labels = generate(model, 1, labels=207)
drawn = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f'import {imported - begin:.1f} s, load {loaded - imported:.1f} s, '
      f'draw {drawn - loaded:.1f} s, peak memory {peak:.2f} GiB', file=sys.stderr)
print(images.shape, images.dtype, images.std() > 5, peak < 4)
"""


@pytest.fixture(scope='module')
def cache(tmp_path_factory, data) -> Iterator[Path]:
    """The cache with a file of this name; random weights of the usual size."""
    folder = tmp_path_factory.mktemp('cache')
    layouts = json.loads((data / 'goldens/checkpoint_layouts.json').read_text())
    shapes, generator = layouts['imagenet64']['state_dict'], torch.Generator().manual_seed(0)
    assert len(shapes) == 541
    weights = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            weight *= 0.7 / weight[0].numel() ** 0.5
        else:
            weight = 0.1 * weight + name.endswith('.weight')
        weights[name] = weight
    torch.save(weights, folder / 'cd_imagenet64_lpips.pt')
    yield folder
    shutil.rmtree(folder)


def run(cache, *command):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=dict(MMAGIC_CM_CACHE=str(cache), PATH='', PYTHONWARNINGS='ignore'),
        capture_output=True,
        text=True,
    )
    print(done.stderr)  # pytest -rP shows the figures
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_it_loads_and_draws(cache):
    sampled = run(cache, '-c', SCRIPT, CONFIG)
    assert sampled == '(1, 64, 64, 3) uint8 True True'


@pytest.mark.slow
def test_the_demo_of_mmagic_without_a_checkpoint_takes_it(cache, tmp_path):
    picture = tmp_path / 'x.png'
    printed = run(
        cache, 'demo/mmagic_inference_demo.py', '--model-name', 'consistency_models',
        '--model-config', CONFIG, '--label', 207, '--device', 'cpu', '--result-out-dir', picture,
        '--extra-parameters', 'num_batches=1',
    )  # fmt: skip
    assert printed.endswith(f'{picture} is drawn')
    assert picture.stat().st_size > 5000


@pytest.mark.slow
def test_the_download_s_check_is_content_with_it(cache):
    printed = run(cache, 'demo/download_checkpoints.py', 'cd_imagenet64_lpips')
    assert printed.endswith('cd_imagenet64_lpips.pt is there, and is what it should be')
