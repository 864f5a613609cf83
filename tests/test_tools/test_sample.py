"""``tools/sample.py`` as users type it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmagic_cm.apis import generate, init_model

ROOT = Path(__file__).parents[2]
TOOL = 'tools/sample.py'


@pytest.fixture(scope='module')
def files(tiny_config, build_model, tmp_path_factory):
    """A config, and a checkpoint with an EMA, of a model that takes 'no class', too."""
    folder = tmp_path_factory.mktemp('files')
    network = dict(null_class=True)
    sampler = dict(type='MultistepSampler', ts=(0, 106, 200), num_scales=201)
    Config(dict(model=tiny_config(network, sampler=sampler))).dump(folder / 'tiny.py')
    online, averaged = (build_model(network, sampler=sampler, seed=seed) for seed in (0, 1))
    emas = {'0.9': averaged.denoiser.state_dict()}
    meta = dict(cfg=(folder / 'tiny.py').read_text())
    torch.save(dict(state_dict=online.state_dict(), emas=emas, meta=meta), folder / 'run.pth')
    return folder / 'tiny.py', folder / 'run.pth'


@pytest.fixture
def sample(run_script, files, tmp_path):
    """Run the command in this process; the arrays that it wrote."""

    def run(*args, model=files, out='a.npz'):
        out = tmp_path / out
        line = *model, '--num-samples', 6, '--out', out, '--device', 'cpu', *args
        code, _, said = run_script(TOOL, *line)
        assert code == 0, said
        if out.suffix != '.npz':
            return out
        with np.load(out) as found:
            arrays = found['arr_0'], found['arr_1']
        out.unlink()
        return arrays

    return run


def multistep(*ts: int) -> dict:
    return dict(type='MultistepSampler', ts=ts, num_scales=ts[-1] + 1)


def assert_same(found, expected):
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(found[0], expected[0])


def test_a_checkpoint_that_says_what_it_is_of_is_enough(sample, files):
    assert_same(sample(model=files[1:]), sample())


def test_the_defaults_are_those_of_the_library(sample, files):
    model = init_model(*files, device='cpu')
    assert_same(sample(), generate(model, 6))
    other = sample('--seed', 3, '--batch-size', 2)
    expected = generate(model, 6, seed=3)
    assert np.array_equal(other[1], expected[1])
    assert abs(other[0].astype(int) - expected[0]).max() <= 1


@pytest.mark.parametrize(
    ('words', 'model', 'drawn'),
    [
        ('--labels 1,5,9', {}, dict(labels=[1, 5, 9, 1, 5, 9])),
        ('--labels balanced', {}, dict(labels=[0, 1, 2, 3, 4, 5])),
        ('--labels -1', {}, dict(labels=[-1] * 6)),
        ('--sampler heun num_steps=3', {}, dict(sampler=dict(type='HeunSampler', num_steps=3))),
        ('--sampler onestep', {}, dict(sampler='OnestepSampler')),
        ('--ts 0,62,200', {}, dict(sampler=multistep(0, 62, 200))),
        ('--timesteps 62,0', {}, dict(sampler=multistep(0, 62, 200))),
        ('--timesteps 22,0 --num-scales 40', {}, dict(sampler=multistep(0, 22, 39))),
        ('--cfg-options model.sampler.ts=(0,5,200)', {}, dict(sampler=multistep(0, 5, 200))),
        ('--ema none', dict(ema=None), {}),
        ('--ema 0.9', dict(ema=0.9), {}),
        ('--precision bf16', dict(precision='bf16'), {}),
    ],
)
def test_options(words, model, drawn, sample, files):
    model = init_model(*files, device='cpu', **model)
    assert_same(sample(*words.split()), generate(model, 6, **drawn))


def test_guidance(sample, files):
    model = init_model(*files, device='cpu')
    model.guidance_scale = 3.0
    assert_same(sample('--guidance-scale', 3), generate(model, 6))


def test_a_grid_and_a_folder(sample):
    grid = Image.open(sample('--columns', 2, out='grid.png'))
    assert grid.size == (2 * 34 + 2, 3 * 34 + 2)
    assert len(list(sample(out='folder').glob('*.png'))) == 6


def test_progress_is_shown(run_script, files, tmp_path):
    line = '--num-samples', 6, '--out', tmp_path / 'a.npz', '--batch-size', 2
    *_, shown = run_script(TOOL, *files, *line)
    assert ' 6/6 ' in shown
    assert 'image/s' in shown


@pytest.mark.slow
def test_torchrun_is_killed_and_goes_on(files, sample, tmp_path):
    """Two processes and batches of 3, killed; then one process and batches of 64."""
    count, out = 300, tmp_path / 'many.npz'
    words = f'--num-samples {count} --out {out} --labels balanced --sampler heun num_steps=9'
    words = [str(ROOT / 'tools/sample.py'), *map(str, files), *words.split(), '--device', 'cpu']
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    torchrun += ['--nproc_per_node', '2', *words, '--launcher', 'pytorch', '--batch-size', '3']
    part, log = tmp_path / 'many.npz.part', tmp_path / 'log'

    with log.open('w') as file:
        launched = subprocess.Popen(torchrun, stdout=file, stderr=file)
    while launched.poll() is None and len(list(part.glob('*.npy'))) < 20:
        time.sleep(0.02)
    # Its processes would outlive torchrun.
    children = Path(f'/proc/{launched.pid}/task/{launched.pid}/children').read_text().split()
    for process in (*map(int, children), launched.pid):
        os.kill(process, signal.SIGKILL)
    launched.wait()
    left = 3 * len(list(part.glob('*.npy')))
    assert 60 <= left < count, log.read_text()
    assert not out.exists()

    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f' {left}/{count} ' in done.stderr  # where it went on
    model = init_model(*files, device='cpu')
    sampler = dict(type='HeunSampler', num_steps=9)
    images, labels = generate(model, count, 'balanced', sampler)
    with np.load(out) as found:
        assert np.array_equal(found['arr_1'], labels)
        assert abs(found['arr_0'].astype(int) - images).max() <= 1
    assert not part.exists()
