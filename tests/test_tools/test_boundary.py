"""Every command, where the machine, a file or a library says no: one line, and what it is about."""

import resource
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
    for name in ('run', 'damaged'):
        (root / name / '1/vis_data').mkdir(parents=True)
    log = '{"step": 1, "loss": 1.0}\n{"step": 1, "fid": 1.0}\n'
    (root / 'run/1/vis_data/scalars.json').write_text(log)
    (root / 'damaged/1/vis_data/scalars.json').write_bytes(b'{"gr\xfc\xdfe": 1}')
    (root / 'text').write_text('no weights')
    (root / 'text.npz').write_text('no arrays')
    (root / 'other.json').write_text('{"fid": 3}')
    (root / 'latin.py').write_bytes(b"work_dir = 'gr\xfc\xdfe'\n")
    (root / 'divides.py').write_text('num_scales = 1 / 0\n')
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def fail(run_script, files, monkeypatch, tmp_path):
    """Run a command that fails; its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / 'demo')
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
    'command',
    [
        'tools/sample.py <tiny.py> <tiny.pth> --num-samples 200 --batch-size 200 --out full.npz',
        'tools/sample.py <tiny.py> <tiny.pth> --num-samples 200 --batch-size 200 --out full.png',
        'tools/model_converters/convert.py <tiny.pth> --config <tiny.py> --to openai --out full.pt',
        'tools/model_converters/publish_model.py <tiny.pth> --config <tiny.py> full',
        'tools/dataset_converters/imagenet.py <pictures> --workers 1 --out full',
        'tools/dataset_converters/lsun.py <pictures> --workers 1 --out full.lmdb',
        'tools/analysis_tools/plot_run.py <run> --out full.png',
        'tools/train.py <leaf.py> --work-dir full',
    ],
)
def test_a_disk_that_is_full(fail, command):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))  # of each file
    try:
        line = fail(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert command.split()[-1] in line


@pytest.mark.parametrize(
    ('command', 'file'),
    [
        ('tools/sample.py <tiny.py> <text> --num-samples 2 --out a.npz', 'text'),
        ('tools/sample.py <text> <tiny.pth> --num-samples 2 --out a.npz', 'text'),
        ('tools/train.py <latin.py>', 'latin.py'),
        ('tools/analysis_tools/print_config.py <divides.py>', 'divides.py'),
        ('tools/edit.py denoising <leaf.py> <leaf.pth> <text> --out a', 'text'),
        (
            'tools/model_converters/convert.py <text> --config <tiny.py> --to ours --out a.pth',
            'text',
        ),
        ('tools/analysis_tools/plot_run.py <damaged>', 'damaged'),
        ('mmagic_cm.evaluation.__main__ <images.npz> <text.npz> --extractor pixels', 'text.npz'),
        ('tools/analysis_tools/plot_metrics.py <other.json>', 'other.json'),
        ('tools/test.py <leaf.py> <text>', 'text'),
        ('tools/dataset_converters/imagenet.py <text> --workers 1 --out a', 'text'),
    ],
)
def test_a_file_of_another_kind(fail, command, file, files):
    assert str(files[file]) in fail(command)


@pytest.mark.parametrize(
    ('options', 'what'),
    [
        ('optim_wrapper.optimizer.lr=fast', 'optim_wrapper'),
        ('optim_wrapper.clip_grad.max_nrm=1', "'max_nrm'"),
        ('randomness.sed=1', "'sed'"),
        ('visualizer.vis_backend=1', "'vis_backend'"),
        ('model.denoiser.network.channel_mult.1=5', 'network.channel_mult.1'),
        ('custom_hooks.9.rate=5', 'custom_hooks.9'),
        ('train_dataloader.num_wokers=1', 'train_dataloader'),
        ('log_level=LOUD', 'log_level'),
        ('param_scheduler.type=LinearLR param_scheduler.start=1', 'param_scheduler'),
        ('model.denoiser.network.channel_mult=a', 'ADMUNet'),
        ('env_cfg.mp_cfg.mp_start_method=spoon', 'env_cfg'),
    ],
)
def test_a_value_of_the_config_that_a_library_refuses(fail, options, what):
    assert what in fail(f'tools/train.py <leaf.py> --cfg-options {options}')


@pytest.mark.parametrize(
    ('option', 'closest'),
    [
        ('default_hooks.checkpoint.max_keep_ckpt=2', 'max_keep_ckpts'),
        ('optim_wraper.optimizer.lr=1', 'optim_wrapper'),
        ('modle.sigma=1', 'model'),
        ('model_wrapper_cfg.broadcast_bufers=1', 'broadcast_buffers'),
    ],
)
def test_mistyped_names_are_refused_at_the_start(fail, option, closest, tmp_path):
    assert f'Did you mean {closest!r}?' in fail(f'tools/train.py <leaf.py> --cfg-options {option}')
    assert not [*tmp_path.rglob('*.pth')]


@pytest.mark.parametrize('command', sorted({line.split()[0] for line in WRITING}))
def test_every_command_takes_debug(run_script, command, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'demo')
    status, said, _ = run_script(command, '--help')
    assert (status, '--debug' in said) == (0, True)
