"""``tools/analysis_tools/print_config.py`` as users type it."""

from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from mmagic_cm.apis import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
FOLDER = CONFIGS / 'ect_1xb64-folder-64x64.py'
TOOL = 'tools/analysis_tools/print_config.py'


@pytest.mark.parametrize(
    'config',
    [
        CONFIGS / 'cd-lpips_8xb256-imagenet1k-64x64.py',
        CONFIGS / 'ect_1xb96-digits-8x8.py',
        CONFIGS / 'consistency_models_8xb32-LSUN-cat-multistep-256x256.py',
        'cd_imagenet64_lpips',
    ],
)
def test_the_file_loads_again_to_the_same_config(run_script, config, tmp_path):
    out = tmp_path / 'new' / 'whole.py'
    code, printed, _ = run_script(TOOL, config, '--out', out)
    assert code == 0
    assert printed == out.read_text() + '\n'
    assert '_base_' not in printed
    assert Config.fromfile(out).to_dict() == load_config(config).to_dict()


def test_options_reach_what_they_reach_in_training(run_script, tmp_path):
    for name in ('cat', 'dog'):
        (tmp_path / 'pictures' / name).mkdir(parents=True)
        Image.new('RGB', (64, 64)).save(tmp_path / 'pictures' / name / '0.png')
    out = tmp_path / 'whole.py'
    options = f'data_root={tmp_path}/pictures', 'train_cfg.max_iters=7'
    code, _, err = run_script(TOOL, FOLDER, '--out', out, '--cfg-options', *options)
    assert (code, err) == (0, '')
    cfg = Config.fromfile(out)
    assert cfg.train_cfg.max_iters == 7
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path}/pictures'
    assert cfg.num_classes == cfg.model.denoiser.network.num_classes == 2


def test_a_config_is_printed_without_its_data(run_script):
    code, printed, err = run_script(TOOL, FOLDER)
    assert code == 0
    assert "num_classes = 'auto'" in printed
    assert err.startswith("num_classes stays 'auto', since the data cannot be read: ImageFolder")
