"""``python -m mmagic_cm.evaluation REF SAMPLES`` as users type it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.errors import run_cli
from mmagic_cm.evaluation import __main__
from mmagic_cm.io.images import save_images, save_npz
from mmagic_cm.metrics import PixelFeatures

CONFIG = Path(__file__).parents[2] / 'configs/consistency_models/ect_1xb96-digits-8x8.py'
TRAIN, TEST = load_split('train')[0], load_split('test')[0]
OF_PIXELS = ('fid', 'kid', 'precision', 'recall')


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the command in this process; what it wrote to --out."""
    monkeypatch.chdir(tmp_path)
    save_npz(TRAIN, None, 'train.npz')
    save_npz(TEST, None, 'test.npz')
    save_images(TEST, 'test')

    def run(*args) -> dict:
        argv = [*map(str, args), '--device', 'cpu', '--out', 'out.json']
        monkeypatch.setattr(sys, 'argv', ['evaluation', *argv])
        run_cli(__main__.main)
        return json.loads(Path('out.json').read_text())

    return run


@pytest.mark.parametrize('reference', ['train.npz', CONFIG])
@pytest.mark.parametrize('samples', ['test.npz', 'test'])
def test_all_metrics_that_the_reference_allows(reference, samples, command, figures_of, capsys):
    found = command(reference, samples, '--extractor', 'pixels', '--batch-size', 100)
    about = found.pop('about')
    assert found == figures_of(TEST, OF_PIXELS)
    assert about['images'] == len(TEST)
    assert about['crop of the reference'] == 'none: 8 x 8 as stored'
    assert about['extractor'] == PixelFeatures().identity
    shown = capsys.readouterr().out
    for text in (*OF_PIXELS, 'none: 8 x 8 as stored', PixelFeatures().identity):
        assert text in shown


def test_some_metrics_of_some_samples(command, figures_of):
    options = ('--extractor', 'pixels', '--metrics', 'recall,fid', '--num-samples', 60)
    found = command('train.npz', 'test', *options, '--batch-size', 32)
    assert found.pop('about')['images'] == 60
    assert found == figures_of(TEST[:60], ('recall', 'fid'))


def test_pictures_are_cropped_to_the_samples_or_to_a_size(command):
    rows = np.random.default_rng(0).integers(0, 256, (30, 12, 9, 1), dtype=np.uint8)
    save_images(rows, 'large')
    options = ('--extractor', 'pixels', '--metrics', 'fid')
    about = command('large', 'test.npz', *options)['about']
    assert about['crop of the reference'].startswith('central square, resized to 8 x 8')
    assert about['crop of the samples'] == 'none: 8 x 8 as stored'
    found = command('large', 'large', *options, '--crop', 4)
    assert found['fid'] == pytest.approx(0, abs=1e-9)
    assert found['about']['crop of the samples'].startswith('central square, resized to 4 x 4')
    found = command('large', 'large', *options, '--crop', 'none')
    assert found['about']['crop of the reference'] == 'none: 9 x 12 as stored'


def test_a_torchscript_file_is_an_extractor(command):
    torch.jit.script(torch.nn.Flatten()).save('flat.pt')
    found = command('train.npz', 'test.npz', '--extractor', 'flat.pt', '--metrics', 'recall')
    assert 0 < found['recall'] <= 1
    assert found['about']['extractor'].startswith('ModuleFeatures')
