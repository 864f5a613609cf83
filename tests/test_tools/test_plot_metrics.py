"""``tools/analysis_tools/plot_metrics.py``: what it writes and refuses."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmagic_cm.evaluation.report import write_report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch):
    path = ROOT / 'tools/analysis_tools/plot_metrics.py'
    spec = importlib.util.spec_from_file_location('tools_plot_metrics', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args) -> None:
        monkeypatch.setattr(sys, 'argv', ['plot_metrics.py', *map(str, args)])
        tool.run_cli(tool.main)

    return run


@pytest.fixture
def folder(tmp_path):
    """Two results of a checkpoint, and a file of something else."""
    (tmp_path / 'log.json').write_text(json.dumps(dict(step=1, fid=9)))
    for evaluations in (1, 2):
        about = {'network evaluations': evaluations, 'checkpoint': 'a.pth'}
        write_report(tmp_path / f'{evaluations}.json', dict(fid=3), about)
    return tmp_path


def test_a_picture(command, folder, capsys):
    results = folder / '1.json', folder / '2.json'
    for args, out in [
        (results, folder / 'metrics.png'),
        ((*results, '--metric', 'fid', '--out', folder / 'new/a.png'), folder / 'new/a.png'),
    ]:
        command(*args)
        assert capsys.readouterr().out == f'Drawn in {out}\n'
        assert Image.open(out).width > 500


@pytest.mark.parametrize(
    ('args', 'offender'),
    [
        (['/nowhere'], '/nowhere'),
        (['{tmp}/1.json', '--metric', 'fdi'], 'fdi'),
        (['{tmp}/1.json', '--out', 'a.txt'], 'a.txt'),
        (['{tmp}/1.json', '--out', '/proc/a.png'], '/proc/a.png'),
        (['{tmp}/log.json'], '{tmp}/log.json'),
    ],
)
def test_mistakes_are_answered_with_one_line(command, folder, capsys, args, offender):
    with pytest.raises(SystemExit) as exit_:
        command(*(arg.format(tmp=folder) for arg in args))
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert offender.format(tmp=folder) in line
