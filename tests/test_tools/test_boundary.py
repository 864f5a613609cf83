"""Every command, where the machine or a library says no: one line, and what it is about.

A few; `test_campaign` has hundreds.
"""

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmagic_cm.apis import init_model

ROOT = Path(__file__).parents[2]
CT = ROOT / 'configs/consistency_models/ct_1xb96-digits-8x8.py'
LONG = 300 * 'n'
LEAF = f"""
_base_ = '{CT}'
model = dict(denoiser=dict(network=dict(model_channels=8)))
train_dataloader = dict(batch_size=8, dataset=dict(serialize_data=False))
train_cfg = dict(max_iters=1)
log_level = 'ERROR'
"""


@pytest.fixture(scope='module')
def files(tiny_config, build_model, tmp_path_factory) -> dict[str, Path]:
    """What commands read: good files, and bad ones."""
    root = tmp_path_factory.mktemp('files')
    Config(dict(model=tiny_config())).dump(root / 'tiny.py')
    torch.save(dict(state_dict=build_model().state_dict()), root / 'tiny.pth')
    (root / 'leaf.py').write_text(LEAF)
    torch.save(dict(state_dict=init_model(root / 'leaf.py').state_dict()), root / 'leaf.pth')
    np.savez(root / 'images.npz', arr_0=np.zeros((4, 8, 8, 1), np.uint8))
    (root / 'pictures/a').mkdir(parents=True)
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 70, 3), np.uint8)
        Image.fromarray(pixels).save(root / f'pictures/a/{i}.png')
    (root / 'run/1/vis_data').mkdir(parents=True)
    log = '{"step": 1, "loss": 1.0}\n{"step": 1, "fid": 1.0}\n'
    (root / 'run/1/vis_data/scalars.json').write_text(log)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def fail(run_script, files, monkeypatch, tmp_path):
    """Run a command that fails; its one line."""
    monkeypatch.chdir(tmp_path)
    for folder in ('tools', 'demo'):  # where scripts find each other
        monkeypatch.syspath_prepend(ROOT / folder)
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))

    def run(command: str) -> str:
        for name, path in files.items():
            command = command.replace(f'<{name}>', str(path))
        args = command.replace('LONG', LONG).split()
        if args[0] == 'tools/train.py':
            # MMEngine's logs are global, by this name.
            args += [] if '--cfg-options' in args else ['--cfg-options']
            args += [f'experiment_name={uuid.uuid4().hex}']
        status, _, said = run_script(*args)
        assert status == 1
        assert 'Traceback' not in said
        [line] = [line for line in said.splitlines() if 'rror: ' in line]
        return line

    return run


WRITING = [
    'tools/sample.py <tiny.py> <tiny.pth> --num-samples 2 --out LONG.npz',
    'tools/sample.py <tiny.py> <tiny.pth> --num-samples 2 --out LONG.png',
    'tools/sample.py <tiny.py> <tiny.pth> --num-samples 2 --out LONG',
    'tools/edit.py denoising <leaf.py> <leaf.pth> <pictures>/a/0.png --sigma 1 --out LONG',
    'tools/model_converters/convert.py <tiny.pth> --config <tiny.py> --to ours --out LONG.pth',
    'tools/model_converters/convert.py <tiny.pth> --config <tiny.py> --to openai --out LONG.pt',
    'tools/model_converters/convert.py <tiny.pth> --config <tiny.py> --to diffusers --out LONG',
    'tools/model_converters/publish_model.py <tiny.pth> LONG --config <tiny.py>',
    'tools/benchmark.py <tiny.py> --device cpu --repeats 1 --batch-size 1 --out LONG.json',
    'tools/analysis_tools/get_flops.py <tiny.py> --out LONG.json',
    'tools/analysis_tools/print_config.py <tiny.py> --out LONG.py',
    'tools/analysis_tools/browse_dataset.py <leaf.py> --num 1 --out LONG.png',
    'tools/analysis_tools/plot_run.py <run> --out LONG.png',
    'tools/dataset_converters/imagenet.py <pictures> --workers 1 --out LONG',
    'tools/dataset_converters/lsun.py <pictures> --workers 1 --out LONG.lmdb',
    'tools/train.py <leaf.py> --work-dir LONG',
    'tools/test.py <leaf.py> <leaf.pth> --work-dir LONG',
    'tools/search_timesteps.py <leaf.py> <leaf.pth> --work-dir LONG',
    'demo/digits_demo.py --work-dir LONG',
    'demo/digits_gallery.py <leaf.py> <leaf.pth> LONG',
    'mmagic_cm.evaluation.__main__ <images.npz> <images.npz> --extractor pixels --out LONG.json',
]


@pytest.mark.parametrize('command', WRITING)
def test_a_name_that_is_too_long(fail, command):
    line = fail(command)
    assert LONG[:100] in line
    assert 'File name too long' in line


def test_a_cache_that_cannot_be(fail, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', LONG)
    assert LONG[:100] in fail('demo/download_checkpoints.py cd_imagenet64_lpips')


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ('optim_wrapper.optimizer.lr=fast', 'optim_wrapper'),
        ('model.denoiser.network.channel_mult.1=5', 'network.channel_mult.1'),
        ('default_hooks.checkpoint.max_keep_ckpt=2', 'max_keep_ckpts'),
        ('optim_wraper.optimizer.lr=1', 'optim_wrapper'),
    ],
)
def test_what_a_config_is_told_is_refused_at_the_start(fail, options, named, tmp_path):
    assert named in fail(f'tools/train.py <leaf.py> --cfg-options {options}')
    assert not [*tmp_path.rglob('*.pth')]
