"""``tools/analysis_tools/plot_run.py``: what it reads, draws and refuses."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
LEVELS = ['loss_sigma<0.1', 'loss_sigma<1', 'loss_sigma<10', 'loss_sigma>10']


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis_tools/plot_run.py'
    spec = importlib.util.spec_from_file_location('tools_plot_run', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.plt.close('all')


@pytest.fixture
def command(tool, monkeypatch):
    def run(*args) -> None:
        monkeypatch.setattr(sys, 'argv', ['plot_run.py', *map(str, args)])
        tool.run_cli(tool.main)

    return run


@pytest.fixture
def make_run(tmp_path):
    """Write the log and the grids of a run."""

    def make(name: str, steps=(10, 20, 30, 40, 50), start='1', grids=(), **figures) -> Path:
        folder = tmp_path / name / start / 'vis_data'
        folder.mkdir(parents=True)
        lines = []
        for step in steps:
            entry = dict(step=step, iter=step, lr=1e-3, loss=1 / step)
            entry |= dict.fromkeys(LEVELS, 1 / step)
            lines.append(json.dumps(entry | figures))
        (folder / 'scalars.json').write_text('\n'.join(lines))
        for iteration in grids:
            path = tmp_path / name / 'samples' / f'iter_{iteration}.png'
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
        return tmp_path / name

    return make


def panels(figure) -> dict[str, dict]:
    """Lines of each panel by title: points of each line."""
    return {
        axes.get_title(): [list(map(tuple, line.get_xydata())) for line in axes.lines]
        for axes in figure.axes
        if axes.get_title()
    }


def test_all_figures_of_all_runs_are_drawn(tool, make_run):
    ct = make_run('ct', num_scales=5, target_ema=0.9)
    edm = make_run('edm', steps=[10, 20])
    drawn = panels(tool.draw([ct, edm]))
    assert list(drawn) == [
        'loss',
        'loss by noise level',
        'learning rate',
        'number of scales N',
        'target EMA',
    ]
    assert drawn['loss'] == [[(k, 1 / k) for k in range(10, 60, 10)], [(10, 0.1), (20, 0.05)]]
    assert len(drawn['loss by noise level']) == 2 * len(LEVELS)
    assert drawn['number of scales N'] == [[(k, 5) for k in range(10, 60, 10)]]


def test_what_no_run_logged_is_left_out(tool, make_run):
    assert list(panels(tool.draw([make_run('edm')]))) == [
        'loss',
        'loss by noise level',
        'learning rate',
    ]


def test_a_resumed_run_counts_where_both_wrote(tool, make_run):
    make_run('run', steps=[10, 20, 30], start='1', num_scales=1)
    folder = make_run('run', steps=[20, 30, 40], start='2', num_scales=2)
    assert tool.read_log(folder)['num_scales'] == {10: 1, 20: 2, 30: 2, 40: 2}


def test_a_line_that_was_cut_short_and_validation_are_passed_over(tool, make_run):
    folder = make_run('run', steps=[10])
    with (folder / '1/vis_data/scalars.json').open('a') as file:
        file.write('\n{"fid": 3.0, "step": 10}\n{"step": 20, "lo')
    log = tool.read_log(folder)
    assert log['loss'] == {10: 0.1}
    assert 'fid' not in log


@pytest.mark.parametrize(
    ('there', 'shown'),
    [((20, 100, 5), [5, 20, 100]), (range(1, 101), [1, 26, 51, 75, 100]), ((), [])],
)
def test_grids_from_the_first_to_the_last(tool, make_run, there, shown):
    folder = make_run('run', grids=there)
    grids = tool.find_grids(folder)
    assert [path.name for _, path in grids] == [f'iter_{k}.png' for k in shown]
    titles = [title for title in panels(tool.draw([folder])) if title.startswith('iteration')]
    assert titles == [f'iteration {k}' for k in shown]


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
        (['{tmp}/run', '--out', 'a.txt'], "must end in .png, not 'a.txt'"),
        (['{tmp}/run', '--out', '/proc/a.png'], '/proc/a.png cannot be written'),
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
