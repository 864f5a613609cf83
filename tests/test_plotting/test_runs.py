"""What is read of training runs, and what is drawn of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.errors import InputError
from mmagic_cm.plotting.runs import MAX_GRIDS, find_grids, plot_runs, read_log

LEVELS = ['loss_sigma_0-0.1', 'loss_sigma_0.1-1', 'loss_sigma_1-10', 'loss_sigma_10-inf']


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


def test_all_figures_of_all_runs_are_drawn(make_run):
    ct = make_run('ct', num_scales=5, target_ema=0.9)
    edm = make_run('edm', steps=[10, 20])
    drawn = panels(plot_runs([ct, edm]))
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
    assert list(panels(plot_runs([edm]))) == ['loss', 'loss by noise level', 'learning rate']


def test_a_resumed_run_counts_where_both_wrote(make_run):
    make_run('run', steps=[10, 20, 30], start='1', num_scales=1)
    folder = make_run('run', steps=[20, 30, 40], start='2', num_scales=2)
    assert read_log(folder)[0]['num_scales'] == {10: 1, 20: 2, 30: 2, 40: 2}


@pytest.fixture
def judged(make_run):
    """A run that was validated twice, and was killed while it wrote."""
    folder = make_run('judged', steps=[10, 20])
    entries = [{'m/fid': 9 / k, 'm/is': k, 'm/is_std': 1, 'step': k, 'time': 1.0} for k in (10, 20)]
    with (folder / '1/vis_data/scalars.json').open('a') as file:
        file.write('\n' + '\n'.join(map(json.dumps, entries)) + '\n{"step": 30, "lo')
    return folder


def test_validation_is_told_from_training(judged):
    training, validation = read_log(judged)
    assert training['loss'] == {10: 0.1, 20: 0.05}
    assert validation == {
        'm/fid': {10: 0.9, 20: 0.45},
        'm/is': {10: 10, 20: 20},
        'm/is_std': {10: 1, 20: 1},
    }


def test_figures_of_the_validation_are_drawn_too_or_alone(judged, make_run):
    drawn = panels(plot_runs([judged, make_run('other', steps=[10])]))
    assert drawn['m/fid'] == [[(10, 0.9), (20, 0.45)]]
    assert [*drawn][-2:] == ['m/fid', 'm/is']
    again = panels(plot_runs([judged], metrics=['is', 'fid']))
    assert again == {'is': [[(10, 10), (20, 20)]], 'fid': [[(10, 0.9), (20, 0.45)]]}
    with pytest.raises(InputError, match="'fdi'"):
        plot_runs([judged], metrics=['fdi'])


@pytest.mark.parametrize(
    ('there', 'shown'),
    [((20, 100, 5), [5, 20, 100]), (range(1, 101), [1, 26, 51, 75, 100]), ((), [])],
)
def test_grids_from_the_first_to_the_last(make_run, there, shown):
    folder = make_run('run', grids=there)
    grids = find_grids(folder, MAX_GRIDS)
    assert [path.name for _, path in grids] == [f'iter_{k}.png' for k in shown]
    titles = [title for title in panels(plot_runs([folder])) if title.startswith('iteration')]
    assert titles == [f'iteration {k}' for k in shown]


def test_all_grids_where_no_number_is_named(make_run):
    folder = make_run('run', grids=range(1, 101))
    assert [iteration for iteration, _ in find_grids(folder)] == [*range(1, 101)]
    titles = panels(plot_runs([folder], with_grids=False))
    assert not [title for title in titles if title.startswith('iteration')]


def test_runs_are_called_by_their_folders_or_as_you_like(make_run):
    folders = [make_run('a'), make_run('b')]
    for names, expected in [(None, [str(folder) for folder in folders]), (['x', 'y'], ['x', 'y'])]:
        [legend] = plot_runs(folders, names=names).legends
        assert [text.get_text() for text in legend.get_texts()] == expected
