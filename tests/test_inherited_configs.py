"""Configs that inherit an installed one, by MMEngine's Runner alone as its users' scripts run it.

``tests/test_tools/`` has those that are trained by our command: the other digits, the paper's data.
"""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner
from PIL import Image

from mmagic_cm.apis import generate, init_model
from mmagic_cm.checkpoints.released import configs_folder

LEAVES = configs_folder() / 'consistency_models'


@pytest.fixture
def inherit(tmp_path):
    """A user's config that inherits this one, of a network as small as can be."""

    def inherit(name: str) -> Config:
        path = tmp_path / 'mine.py'
        path.write_text(f"_base_ = 'mmagic_cm::consistency_models/{name}.py'\n")
        cfg = Config.fromfile(path)
        cfg.work_dir, cfg.log_level = str(tmp_path / 'run'), 'ERROR'
        network = cfg.model.denoiser.network
        network.update(image_size=8, model_channels=8, channel_mult=(1,), num_res_blocks=1)
        if network.type == 'ADMUNet':
            network.update(norm_groups=4, num_head_channels=8)
        return cfg

    return inherit


def train(cfg: Config) -> Runner:
    cfg.train_cfg.max_iters = 1
    cfg.train_dataloader.update(batch_size=4, num_workers=0)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert Path(cfg.work_dir, 'iter_1.pth').is_file()
    return runner


def test_digits_train_and_are_tested(inherit):
    cfg = inherit('ect_1xb96-digits-8x8')
    cfg.test_dataloader.dataset.indices = 20
    assert 0 <= train(cfg).test()['digits/accuracy'] <= 1


def test_folder_trains(inherit, tmp_path):
    for i in range(4):
        Image.new('RGB', (8, 8), (60 * i, 0, 0)).save(tmp_path / f'{i}.png')
    cfg = inherit('ect_1xb64-folder-64x64')
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(tmp_path)
    dataset.pipeline[1].size = 8
    train(cfg)


@pytest.mark.parametrize(
    'path', sorted(LEAVES.glob('consistency_models_*.py')), ids=lambda p: p.stem
)
def test_inference_configs_draw(path, inherit):
    images, _ = generate(init_model(inherit(path.stem), device='cpu'), 1)
    assert images.shape == (1, 8, 8, 3)


def test_names_of_the_hub_resolve_in_an_editable_install():
    config = get_config('mmagic_cm::consistency_models/ect_1xb96-digits-8x8.py')
    assert Path(config.filename).samefile(LEAVES / 'ect_1xb96-digits-8x8.py')
