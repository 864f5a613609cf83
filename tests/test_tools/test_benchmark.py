"""``tools/benchmark.py`` as a user types it."""

import json
import subprocess
import sys

import pytest

DIGITS = 'configs/consistency_models/ect_1xb96-digits-8x8.py'


def benchmark(*arguments):
    command = [sys.executable, 'tools/benchmark.py', DIGITS, '--device', 'cpu', *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize('what', ['sample', 'train'])
def test_a_table_and_a_json(what, tmp_path):
    out = tmp_path / 'figures.json'
    done = benchmark(
        '--what',
        what,
        '--batch-size',
        '4',
        '--repeats',
        '1',
        '--compare',
        'reference',
        '--out',
        out,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures['what'] == what
    assert figures['config'] == DIGITS
    assert 'threads' in figures['machine']
    assert f'{what} of {DIGITS}: batches of 4 in fp32' in done.stdout
    assert f'{figures["speedup"]["reference (fp32)"]:.2f} times as fast' in done.stdout
    assert 'TFLOP/s' in done.stdout
    if what == 'train':
        assert '    backward' in done.stdout


def test_what_it_refuses():
    done = benchmark('--what', 'train', '--compile')
    assert done.returncode == 1
    assert done.stderr.strip().endswith('error: --compile is for --what sample.')
    assert '--at is a share' in benchmark('--at', '2').stderr
