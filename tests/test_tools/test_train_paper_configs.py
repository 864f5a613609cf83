"""The configs of the paper's data sets train on small data of the same kinds, by the command.

As configs of users' that inherit the installed ones.
"""

import io
import uuid
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torchvision.models import vgg16

from mmagic_cm.apis import load_config
from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.datasets import cifar
from mmagic_cm.registry import MODELS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
NETWORK = 'model.denoiser.network'
SMALL = {
    f'{NETWORK}.model_channels': 8,
    f'{NETWORK}.channel_mult': (1, 1),
    f'{NETWORK}.num_res_blocks': 1,
    f'{NETWORK}.attention_resolutions': (8,),
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 1,
    'train_cfg.max_iters': 2,
    'default_hooks.logger.interval': 1,
    'log_level': 'ERROR',
}
SIDE = 16


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG')
    return buffer.getvalue()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """An ImageNet-like folder, an LSUN-like LMDB and CIFAR-like binary files."""
    root = tmp_path_factory.mktemp('data')
    for i in range(4):
        path = root / f'imagenet/n{i % 2:08d}/{i}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i))
    with lmdb.open(str(root / 'lsun'), map_size=2**22) as base, base.begin(write=True) as writing:
        for i in range(4):
            writing.put(f'{i:040x}'.encode(), jpeg(i))
    (root / 'cifar').mkdir()
    (root / 'cifar/batches.meta.txt').write_text('\n'.join(f'class{i}' for i in range(10)))
    records = np.random.default_rng(0).integers(0, 10, (4, cifar.RECORD_BYTES), dtype=np.uint8)
    for name in cifar.FILES['train']:
        records.tofile(root / 'cifar' / name)
    return root


@pytest.fixture(scope='module')
def vgg(tmp_path_factory):
    """A file of torchvision's VGG16 with random weights: the real ones cannot be had offline."""
    path = tmp_path_factory.mktemp('vgg') / 'vgg16.pth'
    with torch.device('meta'):
        network = vgg16()
    weights = {k: v for k, v in network.state_dict().items() if k.startswith('features.')}
    torch.manual_seed(0)
    torch.save({k: torch.randn(v.shape) * 0.02 for k, v in weights.items()}, path)
    return path


@pytest.fixture
def train(run_script, monkeypatch, tmp_path, data, vgg):
    """Train a config in this process, in a small network on small data; the last checkpoint."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))
    monkeypatch.setattr(cifar, 'RECORDS', 4)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(name: str) -> dict:
        config = tmp_path / 'mine.py'
        config.write_text(f"_base_ = 'mmagic_cm::consistency_models/{name}.py'\n")
        cfg = load_config(config)
        settings = dict(SMALL, experiment_name=uuid.uuid4().hex)
        if 'cifar10' in name:
            settings['data_root'] = data / 'cifar'
        else:
            settings |= {f'{NETWORK}.norm_groups': 4, f'{NETWORK}.num_head_channels': 8}
            settings['data_root'] = data / ('imagenet' if 'imagenet' in name else 'lsun')
            settings[f'{NETWORK}.image_size'] = SIDE
            settings['train_dataloader.dataset.pipeline.1.size'] = SIDE
        if 'imagenet' in name:
            settings[f'{NETWORK}.num_classes'] = 2
        grid = [hook.type for hook in cfg.custom_hooks].index('SampleGridHook')
        settings[f'custom_hooks.{grid}.num_rows'] = settings[f'custom_hooks.{grid}.num_columns'] = 1
        if name.startswith('cmt_'):
            settings['model.objective.distance.type'] = 'lpips'
        if isinstance(cfg.model.objective.get('distance'), dict) or name.startswith('cmt_'):
            settings['model.objective.distance.weights'] = vgg
            settings['model.objective.distance.resize'] = 32
        if 'HalvingCurriculum' in str(cfg.model.objective.get('curriculum')):
            settings['model.objective.curriculum.start_scales'] = 2
            settings['model.objective.curriculum.steps_per_stage'] = 1
        if name.startswith('edm'):
            settings['model.sampler.num_steps'] = 2
        weights = tmp_path / 'edm.pth'
        if 'teacher' in cfg.model:
            settings['model.teacher.checkpoint'] = weights
        elif 'init_from' in cfg.model:
            settings['model.init_from'] = weights
        small = load_config(config)
        small.merge_from_dict({k: v for k, v in settings.items() if k.startswith(NETWORK)})
        network = MODELS.build(dict(type='ConsistencyModel', denoiser=small.model.denoiser))
        torch.save(network.state_dict(), weights)

        options = [f'{key}={value}'.replace(' ', '') for key, value in settings.items()]
        args = ['--work-dir', tmp_path / 'run', '--cfg-options', *options]
        status, _, said = run_script('tools/train.py', config, *args)
        assert status == 0, said
        return read_checkpoint(tmp_path / 'run/iter_2.pth')

    return run


DATA = dict(
    imagenet=('8xb256', 'imagenet1k-64x64'),
    bedroom=('8xb32', 'LSUN-bedroom-256x256'),
    cat=('8xb32', 'LSUN-cat-256x256'),
    cifar=('8xb64', 'cifar10-32x32'),
)
# Where a recipe has a batch of its own.
SIZES = {
    ('ect', 'cifar'): '1xb128', ('ict', 'cifar'): '8xb128', ('ect', 'imagenet'): '8xb16',
    ('cmt', 'cifar'): '1xb8', ('cmt', 'imagenet'): '8xb1',
    ('cmt-ect', 'cifar'): '1xb128', ('cmt-ect', 'imagenet'): '8xb16',
    ('tcm', 'cifar'): '8xb128', ('tcm', 'imagenet'): '8xb128',
}  # fmt: skip
MODES = ['edm', 'cd-l2', 'cd-lpips', 'ct', 'pd', 'ict', 'ect']
LATER = ['cmt', 'cmt-ect', 'sct', 'scd', 'tcm-stage1', 'tcm']
PAIRS = [(mode, data_set) for mode in MODES for data_set in DATA] + [('cd-l1', 'cifar')]
PAIRS += [(mode, data_set) for mode in LATER for data_set in ('imagenet', 'cifar')]
FAST = {('cd-lpips', 'imagenet'), ('ect', 'cifar'), ('scd', 'imagenet'), ('tcm', 'cifar')}


@pytest.mark.parametrize(
    ('mode', 'data_set'),
    [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in PAIRS],
)
def test_paper_configs_train(mode, data_set, train):
    size, name = DATA[data_set]
    size = SIZES.get((mode, data_set), size)
    checkpoint = train(f'{mode}_{size}-{name}')
    cfg = load_config(CONFIGS / f'{mode}_{size}-{name}.py')
    rates = {str(rate) for hook in cfg.custom_hooks for rate in hook.get('rates', ())}
    widths = {w for hook in cfg.custom_hooks for w in hook.get('sigma_rels', ())}
    assert {*checkpoint.get('emas', {})} == rates | {f'sigma_rel={width}' for width in widths}
    assert ('teacher' in checkpoint) == (mode == 'pd')
    has_target = any(key.startswith('target.') for key in checkpoint['state_dict'])
    assert has_target == (mode.startswith('cd') or mode == 'ct')
    *_, last = (v for k, v in checkpoint['state_dict'].items() if k.startswith('denoiser.'))
    assert last.isfinite().all()
    assert last.any()  # the bias of the output starts at zero
    assert checkpoint['optimizer']
