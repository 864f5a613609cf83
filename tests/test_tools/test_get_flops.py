"""``tools/analysis_tools/get_flops.py`` as a user types it."""

import json
import subprocess
import sys

import pytest

TOOL = 'tools/analysis_tools/get_flops.py'
CONFIG = 'configs/consistency_models/cd-l2_8xb256-imagenet1k-64x64.py'


def get_flops(*arguments):
    command = [sys.executable, TOOL, CONFIG, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_table_and_a_json(tmp_path):
    out = tmp_path / 'figures' / 'flops.json'
    sampler = 'model.sampler.ts=(0,10,22,39)'
    done = get_flops('--batch-size', 256, '--out', out, '--cfg-options', sampler)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures['config'] == CONFIG
    assert figures['sampling']['evaluations'] == 3
    first, parameters, _, *rows, roles, left_out = done.stdout.splitlines()
    assert first == f'{CONFIG}: images of 3 x 64 x 64'
    assert parameters.startswith('  295.9 M parameters: convolutions ')
    assert [row.split() for row in rows] == [
        ['evaluation', '1', '219.26', '56.13'],
        ['image', 'by', 'MultistepSampler', '3', '657.77', '168.39'],
        ['training', 'step', '6', '1315.5', '336.78'],
    ]
    assert 'The step at 0.5 of the run evaluates: online 1, target 1, teacher 2;' in roles
    assert left_out == '  Not counted: recomputed activations.'


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [('--at', '2', '--at is a share'), ('--batch-size', '0', '--batch-size must be at least 1')],
)
def test_what_it_refuses(run_script, option, value, message):
    code, _, refusal = run_script(TOOL, CONFIG, option, value)
    assert code == 2
    assert message in refusal
