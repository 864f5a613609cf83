"""Figures of models, drawn."""

import json
from pathlib import Path

import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.evaluation.report import write_report
from mmagic_cm.plotting.metrics import (
    draw_against_evaluations,
    draw_against_iterations,
    read_result,
    read_validation,
)
from mmagic_cm.plotting.runs import save_figure


def lines(axes) -> dict[str, list]:
    """Points of the lines that the legend names."""
    return {
        line.get_label(): list(map(tuple, line.get_xydata()))
        for line in axes.lines
        if not line.get_label().startswith('_')
    }


@pytest.fixture
def make_run(tmp_path):
    """Write the log of a run that was judged every ten iterations."""

    def make(name: str, start: str = '1', **figures) -> Path:
        folder = tmp_path / name / start / 'vis_data'
        folder.mkdir(parents=True)
        entries = [dict(step=10, loss=1.0, lr=1e-3, time=0.1)]
        for number, step in enumerate((10, 20)):
            judged = {metric: values[number] for metric, values in figures.items()}
            entries.append(judged | dict(step=step, time=0.1, data_time=0.1))
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
        return tmp_path / name

    return make


@pytest.fixture
def make_result(tmp_path):
    """Write what ``tools/test.py`` writes."""

    def make(name: str, evaluations: int, checkpoint: str = 'a.pth', **figures) -> Path:
        path = tmp_path / f'{name}.json'
        about = {'checkpoint': checkpoint, 'network evaluations': evaluations}
        write_report(path, figures, about)
        return path

    return make


def test_figures_of_the_validation_are_read_and_no_others(make_run):
    run = make_run('run', fid=[9.0, 4.0], **{'digits/accuracy': [0.1, 0.9]})
    assert read_validation(run) == {
        'fid': {10: 9.0, 20: 4.0},
        'digits/accuracy': {10: 0.1, 20: 0.9},
    }


def test_runs_against_iterations(make_run):
    a, b = make_run('a', fid=[9.0, 4.0], recall=[0.1, 0.5]), make_run('b', fid=[8.0, 5.0])
    [axes] = draw_against_iterations([a, b]).axes
    assert axes.get_title() == 'fid'
    assert lines(axes) == {str(a): [(10, 9), (20, 4)], str(b): [(10, 8), (20, 5)]}
    titles = [axes.get_title() for axes in draw_against_iterations([a], ['recall', 'fid']).axes]
    assert titles == ['recall', 'fid']


def test_fid_is_drawn_unless_told_otherwise_and_may_be_named_in_short(make_run):
    run = make_run('run', **{'m/is': [1, 2], 'm/sfid': [1, 2], 'm/fid': [3, 4]})
    [axes] = draw_against_iterations([run]).axes
    assert axes.get_title() == 'm/fid'
    [axes] = draw_against_iterations([run], ['is']).axes
    assert lines(axes) == {str(run): [(10, 1), (20, 2)]}


def test_results_against_evaluations(make_result):
    paths = [
        make_result('a2', 2, 'runs/a/iter_9.pth', fid=4.0),
        make_result('a1', 1, 'runs/a/iter_9.pth', fid=7.0),
        make_result('a2_other_levels', 2, 'runs/a/iter_9.pth', fid=5.0),
        make_result('a79', 79, 'runs/a/iter_9.pth', fid=2.0),
        make_result('b1', 1, 'runs/b/iter_9.pth', fid=6.0),
    ]
    [axes] = draw_against_evaluations([*map(read_result, paths)]).axes
    # A line through the best of each number; every result is a point.
    assert lines(axes) == {'a/iter_9.pth': [(1, 7), (2, 4), (79, 2)], 'b/iter_9.pth': [(1, 6)]}
    points = [len(line.get_xdata()) for line in axes.lines if line.get_marker() == 'o']
    assert points == [4, 1]
    assert axes.get_xscale() == 'log'
    assert sorted(axes.get_xticks()) == [1, 2, 79]
    few = draw_against_evaluations([*map(read_result, paths[:2])])
    assert few.axes[0].get_xscale() == 'linear'


def test_the_best_of_equal_numbers_is_the_highest_where_higher_is_better(make_result):
    paths = [make_result(str(value), 2, precision=value) for value in (0.5, 0.7, 0.6)]
    [axes] = draw_against_evaluations([*map(read_result, paths)], ['precision']).axes
    assert lines(axes) == {'a.pth': [(2, 0.7)]}


def test_refusals(make_run, make_result, tmp_path):
    run = make_run('run', fid=[1, 2], **{'a/is': [1, 2], 'b/is': [1, 2]})
    unjudged = make_run('unjudged')
    unlike = make_result('unlike', 1, clip=0.3)
    for call, message in [
        (lambda: draw_against_iterations([tmp_path / 'none']), 'There is no folder'),
        (lambda: draw_against_iterations([unjudged]), 'holds no figures of a validation'),
        (lambda: draw_against_iterations([run], ['fi']), r"no figure 'fi' in .*run.* Did you mean"),
        (lambda: draw_against_iterations([run], ['is']), 'may be a/is or b/is: say which'),
        (lambda: draw_against_evaluations([read_result(unlike)]), 'name one, of clip'),
        (
            lambda: draw_against_evaluations([read_result(unlike)], ['fid']),
            "no figure 'fid' in .*unlike.json",
        ),
        (lambda: save_figure(None, Path('a.pdf')), "must end in .png, not 'a.pdf'"),
    ]:
        with pytest.raises(InputError, match=message):
            call()
