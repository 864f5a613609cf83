"""``tools/test.py`` as users type it."""

import importlib.util
import json
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.datasets.digits import load_split
from mmagic_cm.engine import EMATracker
from mmagic_cm.evaluation import DigitsJudge

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/consistency_models/cd-l2_1xb96-digits-8x8.py'


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the command in this process; what it wrote to --out."""
    spec = importlib.util.spec_from_file_location('tools_test', ROOT / 'tools/test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(config, *args, **settings) -> dict:
        out = tmp_path / 'figures.json'
        settings = dict(experiment_name=uuid.uuid4().hex, log_level='ERROR') | settings
        options = [f'{key}={value}' for key, value in settings.items()]
        argv = [config, *args, '--work-dir', tmp_path, '--out', out, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['tools/test.py', *map(str, argv)])
        tool.run_cli(tool.main)
        return json.loads(out.read_text())

    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights, and other ones as their average."""
    path = tmp_path_factory.mktemp('run') / 'iter_1.pth'
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(init_model(CONFIG))
        torch.nn.init.normal_(models[-1].denoiser.network.out[2].weight, std=0.1)
    emas = EMATracker(models[1].denoiser, (0.9,)).state_dict()
    torch.save(dict(state_dict=models[0].state_dict(), emas=emas), path)
    return path


@pytest.mark.parametrize('ema', ['auto', '0.9', 'none'])
def test_it_judges_one_drawing_for_each_label(ema, checkpoint, command):
    found = command(CONFIG, checkpoint, '--ema', ema)
    labels = load_split('train')[1]
    which = dict(auto='auto', none=None).get(ema, 0.9)
    images, _ = generate(init_model(CONFIG, checkpoint, ema=which), len(labels), labels)
    expected = DigitsJudge().judge(np.asarray(images), labels).as_dict()
    for name, value in expected.items():
        assert found[f'digits/{name}'] == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_refusals(checkpoint, command, capsys):
    for args, sentence in (
        ((CONFIG, 'none.pth'), 'no checkpoint file none.pth'),
        ((CONFIG, checkpoint, '--ema', '0.5'), 'no EMA of rate 0.5'),
        (
            (ROOT / 'configs/consistency_models/ct_8xb64-cifar10-32x32.py', checkpoint),
            'names no metrics',
        ),
    ):
        with pytest.raises(SystemExit):
            command(*args)
        assert sentence in capsys.readouterr().err


def test_the_configs_of_the_digits_say_how_to_judge():
    for path in CONFIG.parent.glob('*digits*.py'):
        # Without classes there is no accuracy.
        has_labels = load_config(path).model.denoiser.network.num_classes is not None
        assert (load_config(path).get('test_evaluator') is not None) == has_labels
