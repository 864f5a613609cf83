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
    """A run that was judged twice, and two results of a checkpoint."""
    log = tmp_path / 'run/1/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(json.dumps(dict(step=step, fid=9 / step)) for step in (1, 2)))
    for evaluations in (1, 2):
        about = {'network evaluations': evaluations, 'checkpoint': 'a.pth'}
        write_report(tmp_path / f'{evaluations}.json', dict(fid=3), about)
    return tmp_path


def test_both_pictures(command, folder, capsys):
    for args, out in [
        (('runs', folder / 'run'), folder / 'run/metrics.png'),
        (('evaluations', folder / '1.json', folder / '2.json'), folder / 'metrics.png'),
        (
            ('runs', folder / 'run', '--metric', 'fid', '--out', folder / 'new/a.png'),
            folder / 'new/a.png',
        ),
    ]:
        command(*args)
        assert capsys.readouterr().out == f'Drawn in {out}\n'
        assert Image.open(out).width > 500


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['runs', '/nowhere'], 'There is no folder /nowhere.'),
        (['runs', '{tmp}'], 'holds no figures of a validation'),
        (['runs', '{tmp}/run', '--metric', 'fdi'], "Did you mean 'fid'?"),
        (['runs', '{tmp}/run', '--out', 'a.txt'], "must end in .png, not 'a.txt'"),
        (['runs', '{tmp}/run', '--out', '/proc/a.png'], 'while writing /proc/a.png: '),
        (
            ['evaluations', '{tmp}/run/1/vis_data/scalars.json'],
            'while reading {tmp}/run/1/',
        ),
    ],
)
def test_mistakes_are_answered_with_one_line(command, folder, capsys, args, message):
    with pytest.raises(SystemExit) as exit_:
        command(*(arg.format(tmp=folder) for arg in args))
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message.format(tmp=folder) in line
