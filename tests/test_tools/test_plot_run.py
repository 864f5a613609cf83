"""``tools/analysis_tools/plot_run.py``: what it writes and refuses."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis_tools/plot_run.py'
    spec = importlib.util.spec_from_file_location('tools_plot_run', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(tool, monkeypatch):
    def run(*args) -> None:
        monkeypatch.setattr(sys, 'argv', ['plot_run.py', *map(str, args)])
        tool.run_cli(tool.main)

    return run


@pytest.fixture
def make_run(tmp_path):
    """Write the log and the grids of a run."""

    def make(name: str, grids=()) -> Path:
        folder = tmp_path / name / '1' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(step=step, loss=1 / step)) for step in (10, 20)]
        (folder / 'scalars.json').write_text('\n'.join(lines))
        for iteration in grids:
            path = tmp_path / name / 'samples' / f'iter_{iteration}.png'
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
        return tmp_path / name

    return make


def test_the_command_writes_a_picture(command, make_run, tmp_path, capsys):
    folder = make_run('run', grids=[10])
    for args, path in [
        ([], folder / 'run.png'),
        (['--out', tmp_path / 'new/a.png'], tmp_path / 'new/a.png'),
    ]:
        command(folder, *args)
        assert capsys.readouterr().out == f'The course of the run is drawn in {path}\n'
        assert Image.open(path).size[0] > 1000


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['/nowhere'], 'There is no folder /nowhere.'),
        (['{tmp}'], 'holds no log of a training'),
        (['{tmp}/half'], 'iter_7.png cannot be read'),
        (['{tmp}/run', '--metric', 'fid'], 'fid'),
        (['{tmp}/run', '--out', 'a.txt'], "must end in .png, not 'a.txt'"),
        (['{tmp}/run', '--out', '/proc/a.png'], 'while writing /proc/a.png: '),
    ],
)
def test_mistakes_are_answered_with_one_line(command, make_run, tmp_path, capsys, args, message):
    make_run('run')
    (make_run('half', grids=[7]) / 'samples/iter_7.png').write_bytes(b'cut short')
    with pytest.raises(SystemExit) as exit_:
        command(*(arg.format(tmp=tmp_path) for arg in args))
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line
