"""Made-up files of full size: ImageNet's by the real inference config, CIFAR-10's by format."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config

from mmagic_cm.checkpoints import sampling_config
from mmagic_cm.checkpoints.writing import write_ours
from mmagic_cm.registry import MODELS

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


NCSNPP = ROOT / 'configs/_base_/models/cifar10_ncsnpp_32.py'
EVERYTHING = """
import re, sys, time
from pathlib import Path
import numpy as np, torch
from mmagic_cm.apis import generate, init_model
from mmagic_cm.editing import inpaint

def memory(kind):  # in MiB; of resource.getrusage, a child starts with what its parent had
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{kind}:\\s+(\\d+)', status)[1]) / 2**10

before, clocks = memory('VmRSS'), [time.process_time()]
model = init_model(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, 'cpu')
peak = memory('VmHWM') - before
clocks.append(time.process_time())
one, _ = generate(model, 1, sampler='OnestepSampler')
clocks.append(time.process_time())
two, _ = generate(model, 1, sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.4)))
clocks.append(time.process_time())
mask = torch.zeros(1, 1, 32, 32)
mask[..., 16:] = 1
image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
torch.manual_seed(0)
with torch.inference_mode():
    edited = inpaint(model.denoiser, image, mask, sigmas=(80.0, 5.0))
clocks.append(time.process_time())
load, *rest = np.diff(clocks).round(1)
print(f'load {load} s, at most {peak:.0f} MiB; one step, two steps, editing {rest}; in seconds '
      'of a processor', file=sys.stderr)
np.savez(sys.argv[-1] + '.npz', one=one, two=two, edited=edited.numpy())
print(peak, bool(edited.isfinite().all()), torch.equal(edited * mask, image * mask))
"""


def write_jax(network, folder, packed, jax_tree) -> Path:
    tree, path = jax_tree(network), folder / 'checkpoint_80'
    rate = np.array(0.9999, dtype=np.float32)
    moments = {'0': dict(count=np.array(7), mu=tree)}
    content = dict(params=tree, params_ema=tree, ema_rate=rate, opt_state=moments)
    path.write_bytes(packed(content))
    return path


def write_pickle(network, write_nvlabs) -> Path:
    theirs = dict(
        img_resolution=32,
        in_channels=3,
        out_channels=3,
        model_channels=128,
        channel_mult=[2, 2, 2],
        num_blocks=4,
        dropout=0.0,
        channel_mult_noise=2,
        embedding_type='fourier',
        encoder_type='residual',
        resample_filter=[1, 3, 3, 1],
    )
    return write_nvlabs(network.state_dict(), theirs, denoiser='ECMPrecond', sigma_min=0.002)


@pytest.mark.slow
def test_cifar10_s_network_in_each_format(tmp_path, fill, packed, jax_tree, write_nvlabs):
    cfg = Config.fromfile(NCSNPP)
    network = fill(MODELS.build(cfg.model.denoiser.network))
    assert sum(parameter.numel() for parameter in network.parameters()) > 56e6
    write_ours(network.state_dict(), sampling_config(cfg), tmp_path / 'ours.safetensors')
    commands = dict(
        jax=(NCSNPP, write_jax(network, tmp_path, packed, jax_tree)),
        nvlabs=(write_pickle(network, write_nvlabs),),
        ours=(tmp_path / 'ours.safetensors',),
    )
    drawn = {}
    for name, command in commands.items():
        size = command[-1].stat().st_size / 2**20
        print(f'{name}, {size:.0f} MiB:', end=' ')
        peak, finite, kept = run(tmp_path, '-c', EVERYTHING, *command).split()
        assert (finite, kept) == ('True', 'True')
        assert float(peak) < 4 * size
        with np.load(f'{command[-1]}.npz') as arrays:
            drawn[name] = dict(arrays)
        command[-1].unlink()
    for name in ('jax', 'nvlabs'):
        for kind, pictures in drawn['ours'].items():
            np.testing.assert_array_equal(drawn[name][kind], pictures)
