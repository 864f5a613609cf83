"""Figures of models, drawn."""

from pathlib import Path

import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.evaluation.report import write_report
from mmagic_cm.plotting.metrics import (
    plot_against_evaluations,
    read_result,
)


def lines(axes) -> dict[str, list]:
    """Points of the lines that the legend names."""
    return {
        line.get_label(): list(map(tuple, line.get_xydata()))
        for line in axes.lines
        if not line.get_label().startswith('_')
    }


@pytest.fixture
def make_result(tmp_path):
    """Write what ``tools/test.py`` writes."""

    def make(name: str, evaluations: int, checkpoint: str = 'a.pth', **figures) -> Path:
        path = tmp_path / f'{name}.json'
        about = {'checkpoint': checkpoint, 'network evaluations': evaluations}
        write_report(path, figures, about)
        return path

    return make


def test_results_against_evaluations(make_result):
    paths = [
        make_result('a2', 2, 'runs/a/iter_9.pth', fid=4.0),
        make_result('a1', 1, 'runs/a/iter_9.pth', fid=7.0),
        make_result('a2_other_levels', 2, 'runs/a/iter_9.pth', fid=5.0),
        make_result('a79', 79, 'runs/a/iter_9.pth', fid=2.0),
        make_result('b1', 1, 'runs/b/iter_9.pth', fid=6.0),
    ]
    [axes] = plot_against_evaluations([*map(read_result, paths)]).axes
    # A line through the best of each number; every result is a point.
    assert lines(axes) == {'a/iter_9.pth': [(1, 7), (2, 4), (79, 2)], 'b/iter_9.pth': [(1, 6)]}
    points = [len(line.get_xdata()) for line in axes.lines if line.get_marker() == 'o']
    assert points == [4, 1]
    assert axes.get_xscale() == 'log'
    assert sorted(axes.get_xticks()) == [1, 2, 79]
    few = plot_against_evaluations([*map(read_result, paths[:2])])
    assert few.axes[0].get_xscale() == 'linear'


def test_the_best_of_equal_numbers_is_the_highest_where_higher_is_better(make_result):
    paths = [make_result(str(value), 2, precision=value) for value in (0.5, 0.7, 0.6)]
    [axes] = plot_against_evaluations([*map(read_result, paths)], ['precision']).axes
    assert lines(axes) == {'a.pth': [(2, 0.7)]}


def test_figures_that_a_result_does_not_have(make_result):
    unlike = make_result('unlike', 1, clip=0.3)
    for metrics in ((), ('fid',)):
        with pytest.raises(InputError, match=r'unlike\.json'):
            plot_against_evaluations([read_result(unlike)], metrics)
