"""Figures drawn: against iterations, and against evaluations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..errors import InputError, doing
from ..metrics.names import find_figure, higher_is_better, usual_figure
from .runs import by_iteration, read_entries, read_text

# Of an entry in a log, no figures of the model.
_NO_FIGURES = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')


def read_validation(work_dir: Path) -> dict[str, dict[int, float]]:
    """The figures that a run logged beside those of training, by name and iteration.

    Raises:
        InputError: There is no such folder, or the run was never judged.
    """
    with doing(f'reading the log of {work_dir}'):
        entries = (entry for entry in read_entries(work_dir) if 'loss' not in entry)
        figures = {k: v for k, v in by_iteration(entries).items() if k not in _NO_FIGURES}
    if not figures:
        raise InputError(
            f'{work_dir} holds no figures of a validation (TIME/vis_data/scalars.json): train with '
            f'a val_evaluator, or judge its checkpoints by tools/test.py.'
        )
    return figures


def draw_against_iterations(work_dirs: Sequence[Path], metrics: Sequence[str] = ()) -> Figure:
    """A panel a figure, a line a run.

    Args:
        work_dirs: Of the runs.
        metrics: Names of figures; default: FID, or the first that is best low.

    Raises:
        InputError: A run was never judged, or none of this name.
    """
    runs = {str(path): read_validation(path) for path in work_dirs}
    if not metrics:
        first = str(work_dirs[0])
        metrics = [usual_figure(runs[first], first)]
    panels = {metric: {} for metric in metrics}
    for metric, lines in panels.items():
        for run, figures in runs.items():
            lines[run] = sorted(figures[find_figure(metric, figures, run)].items())
    return _draw_panels(panels, 'iteration')


@dataclass(frozen=True)
class Result:
    """A file that ``tools/test.py`` wrote.

    Attributes:
        path: The file.
        checkpoint: Of the judged model.
        num_evaluations: Network evaluations an image.
        figures: By name.
    """

    path: Path
    checkpoint: str
    num_evaluations: int
    figures: dict[str, float]


def read_result(path: Path) -> Result:
    """Read what ``tools/test.py --out`` wrote."""
    with doing(f'reading {path} as a result of tools/test.py'):
        figures = json.loads(read_text(path))
        about = figures.pop('about')
        return Result(
            path,
            str(about['checkpoint']),
            int(about['network evaluations']),
            {name: float(value) for name, value in figures.items()},
        )


def draw_against_evaluations(results: Sequence[Result], metrics: Sequence[str] = ()) -> Figure:
    """A panel a figure, a line a checkpoint, through the best result of each number of evaluations.

    Args:
        results: Of one or several checkpoints, each by one or several samplers.
        metrics: Names of figures; default: FID, or the first that is best low.

    Raises:
        InputError: A result has no figure of this name.
    """
    metrics = metrics or [usual_figure(results[0].figures, str(results[0].path))]
    names = _shortest_distinct([result.checkpoint for result in results])
    panels = {metric: {} for metric in metrics}
    for metric, lines in panels.items():
        for result, name in zip(results, names, strict=True):
            value = result.figures[find_figure(metric, result.figures, str(result.path))]
            lines.setdefault(name, []).append((result.num_evaluations, value))
    return _draw_panels(panels, 'network evaluations an image', best_of_equals=True)


def _draw_panels(
    panels: Mapping[str, Mapping[str, list[tuple[int, float]]]],
    label: str,
    best_of_equals: bool = False,
) -> Figure:
    """Lines by name in panels by metric."""
    figure = Figure(figsize=(7 * len(panels), 5), layout='constrained')
    for axes, (metric, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(*zip(*points, strict=True), 'o', color=f'C{number}', markersize=4)
            line = _best_of_equals(points, metric) if best_of_equals else points
            axes.plot(*zip(*line, strict=True), '-', color=f'C{number}', label=name)
        values = [value for points in lines.values() for _, value in points]
        if best_of_equals:
            _count_evaluations(axes, {x for points in lines.values() for x, _ in points})
        if higher_is_better(metric) is False and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale('log')
        axes.set_title(metric)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    return figure


def _best_of_equals(points: list[tuple[int, float]], metric: str) -> list[tuple[int, float]]:
    best = max if higher_is_better(metric) else min
    return [(x, best(y for at, y in points if at == x)) for x in sorted({x for x, _ in points})]


def _count_evaluations(axes: Axes, counts: set[int]) -> None:
    """Whole numbers on the axis; logarithmic where they span more than a factor of eight."""
    if max(counts) > 8 * min(counts):
        axes.set_xscale('log')
        axes.xaxis.set_minor_locator(NullLocator())
    if len(counts) <= 10:
        axes.set_xticks(sorted(counts))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:g}'))


def _shortest_distinct(paths: Sequence[str]) -> list[str]:
    """Ends of the paths, just long enough to tell different ones apart."""
    parts = {path: Path(path).parts for path in paths}
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {path: '/'.join(given[-length:]) for path, given in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return [names[path] for path in paths]
