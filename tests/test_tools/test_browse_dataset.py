"""``tools/analysis_tools/browse_dataset.py`` as users type it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.apis import load_config
from mmagic_cm.registry import DATASETS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
FOLDER = CONFIGS / 'ect_1xb64-folder-64x64.py'
TOOL = 'tools/analysis_tools/browse_dataset.py'


@pytest.fixture(scope='session')
def tool(load_script):
    return load_script(TOOL)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Red cats and blue dogs, some of which are too small."""
    for i in range(12):
        path = tmp_path / 'pictures' / ['cat', 'dog'][i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (255, 0, 0) if i % 2 == 0 else (0, 0, 255)
        Image.new('RGB', (100, 70) if i < 10 else (20, 20), colour).save(path)
    return tmp_path / 'pictures'


def test_a_folder(run_script, pictures, tmp_path):
    out = tmp_path / 'grid.png'
    options = '--cfg-options', f'data_root={pictures}'
    code, printed, _ = run_script(TOOL, FOLDER, '--out', out, '--num', 9, *options)
    assert code == 0
    # Between them, the log names those that are too small.
    first, *_, last = printed.splitlines()
    assert first == (
        '12 images in 2 classes; of 12 looked at, sizes run from 20 x 20 to 100 x 70; each is '
        'cropped to its central square and resized to 64 x 64.'
    )
    assert last == f'9 images as the network sees them are in {out}'
    grid = np.asarray(Image.open(out))
    assert grid.shape == (3 * (64 + 15 + 2) + 2, 3 * 66 + 2, 3)
    corners = [tuple(grid[2 + 81 * y, 2 + 66 * x]) for y in range(3) for x in range(3)]
    assert {*corners} == {(255, 0, 0), (0, 0, 255)}
    # Black names on white.
    caption = grid[2 + 64 : 2 + 79, 2:66]
    assert caption.max() == 255
    assert caption.min() < 100


def test_shows_the_first_draws_of_a_run(tool, tmp_path, run_script):
    path = CONFIGS / 'ct_1xb96-digits-8x8.py'
    cfg = load_config(path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    order = np.random.default_rng((0, 0)).permutation(len(dataset))
    items = tool.first_draws(cfg, dataset, 5)
    for item, index in zip(items, order[:5], strict=True):
        assert item['labels'] == dataset[index]['labels']
        assert (item['inputs'] == dataset[index]['inputs']).all()
    code, printed, _ = run_script(TOOL, path, '--num', 5, '--out', tmp_path / 'digits.png')
    assert code == 0
    assert printed.startswith('1,400 images in 10 classes; of 100 looked at, all are 8 x 8 pixels.')


def test_captions_fit(tool):
    image = np.full((8, 8, 1), 200, dtype=np.uint8)
    cell = tool.captioned(image, 'a very long name of a class')
    assert cell.shape == (64 + 15, 64, 3)
    assert (cell[:64] == 200).all()
    assert (cell[64:] < 100).any()
