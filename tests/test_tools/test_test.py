"""``tools/test.py`` as users type it."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.datasets.digits import load_split
from mmagic_cm.engine import EMATracker
from mmagic_cm.metrics import DigitsJudge

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/consistency_models/cd-l2_1xb96-digits-8x8.py'


@pytest.fixture
def command(load_script, monkeypatch, tmp_path):
    """Run the command in this process; what it wrote to --out, or beside its log."""
    tool = load_script('tools/test.py')

    def run(config, *args, out='figures.json', **settings) -> dict:
        settings = dict(experiment_name=uuid.uuid4().hex, log_level='ERROR') | settings
        options = [f'{key}={value}' for key, value in settings.items()]
        where = ['--work-dir', tmp_path / 'run', *(['--out', tmp_path / out] if out else [])]
        argv = [config, *args, *where, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['tools/test.py', *map(str, argv)])
        tool.run_cli(tool.main)
        [path] = [tmp_path / out] if out else (tmp_path / 'run').glob('*/metrics.json')
        return json.loads(path.read_text())

    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, untrained):
    """Random weights, and other ones as their average."""
    path = tmp_path_factory.mktemp('run') / 'iter_1.pth'
    emas = EMATracker(untrained(CONFIG, seed=1).denoiser, (0.9,)).state_dict()
    torch.save(dict(state_dict=untrained(CONFIG).state_dict(), emas=emas), path)
    return path


@pytest.mark.parametrize('ema', ['auto', '0.9', 'none'])
def test_it_judges_one_drawing_for_each_label(ema, checkpoint, command):
    found = command(CONFIG, checkpoint, '--ema', ema, '--num-samples', 200)
    labels = load_split('train')[1][:200]
    which = dict(auto='auto', none=None).get(ema, 0.9)
    images, _ = generate(init_model(CONFIG, checkpoint, ema=which), len(labels), labels)
    expected = DigitsJudge().judge(np.asarray(images), labels).as_dict()
    for name, value in expected.items():
        assert found[f'digits/{name}'] == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_the_configs_of_the_digits_say_how_to_judge():
    for path in CONFIG.parent.glob('*digits*.py'):
        # Without classes there is no accuracy.
        has_labels = load_config(path).model.denoiser.network.num_classes is not None
        kind = 'DigitsMetric' if has_labels else 'GenerativeMetrics'
        assert load_config(path).test_evaluator.type == kind


def test_it_prints_a_table_and_writes_a_file_by_the_log(command, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))
    config = CONFIG.with_name('ect_1xb96-digits-uncond-8x8.py')
    torch.save(dict(state_dict=init_model(config).state_dict()), tmp_path / 'model.pth')
    args = ('--num-samples', 30, '--sampler', 'heun', 'num_steps=2', '--precision', 'bf16')
    found = command(config, tmp_path / 'model.pth', *args, '--seed', 4, out=None)
    about = found.pop('about')
    assert found.keys() == {'pixels/fid', 'pixels/precision', 'pixels/recall'}
    assert (about['images'], about['seed'], about['precision']) == (30, 4, 'bf16')
    assert about['network evaluations'] == 3
    assert about['sampler'].startswith('HeunSampler(')
    assert about['checkpoint'] == str(tmp_path / 'model.pth')
    shown = capsys.readouterr().out
    for text in ('metric', 'this run', 'pixels/recall', 'DigitsDataset', 'none: 8 x 8 as stored'):
        assert text in shown


def test_the_papers_figures_and_the_caveat_are_shown(command, monkeypatch, tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{CONFIG.with_name('ect_1xb96-digits-uncond-8x8.py')}'\n"
        "model = dict(objective=dict(_delete_=True, type='A', part=[dict(distance='lpips')]))\n"
        'test_evaluator = dict(paper=[dict(num_evaluations=1, recall=0.63)])\n'
    )
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr('mmagic_cm.evaluation.runs.InceptionFeatures', object)  # pixels will do
    torch.save(dict(state_dict=init_model(config).state_dict()), tmp_path / 'model.pth')
    found = command(config, tmp_path / 'model.pth', '--num-samples', 20)
    assert found['about']['paper'] == dict(recall=0.63)
    assert found['about']['notes'][0].startswith('This model was trained with LPIPS')
    shown = capsys.readouterr().out
    assert '0.63' in shown.split('pixels/recall')[1].split('\n')[0]
    assert 'FID may flatter it' in shown


@pytest.mark.slow
def test_processes_share_the_drawing(untrained, tmp_path):
    config = CONFIG.with_name('ect_1xb96-digits-uncond-8x8.py')
    torch.save(dict(state_dict=untrained(config).state_dict()), tmp_path / 'model.pth')
    environment = os.environ | dict(
        CUDA_VISIBLE_DEVICES='',
        PYTHON=sys.executable,
        MMAGIC_CM_CACHE=str(tmp_path / 'cache'),
    )
    found = []
    for i, command in enumerate((['tools/test.py'], ['tools/dist_test.sh'])):
        runs = [sys.executable, *command] if i == 0 else ['bash', *command]
        files = [str(config.relative_to(ROOT)), str(tmp_path / 'model.pth')]
        options = ['--num-samples', '31', '--out', str(tmp_path / f'{i}.json')]
        options += ['--work-dir', str(tmp_path / f'run_{i}')]
        done = subprocess.run(
            [*runs, *files, *(['2'] if i else []), *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count('this run') == 1
        found.append(json.loads((tmp_path / f'{i}.json').read_text()))
        assert found[-1].pop('about')['images'] == 31
    assert found[1] == {name: pytest.approx(value) for name, value in found[0].items()}
