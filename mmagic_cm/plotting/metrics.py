"""What models were judged by, drawn against network evaluations or widths of averages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ..errors import doing
from ..io.files import existing_file
from ..metrics.names import find_figure, higher_is_better, usual_figure


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
        figures = json.loads(existing_file(path).read_text(encoding='utf-8'))
        about = figures.pop('about')
        return Result(
            path,
            str(about['checkpoint']),
            int(about['network evaluations']),
            {name: float(value) for name, value in figures.items()},
        )


def plot_against_evaluations(results: Sequence[Result], metrics: Sequence[str] = ()) -> Figure:
    """A panel a figure, a line a checkpoint, through the best result of each number of evaluations.

    Args:
        results: Of one or several checkpoints, each by one or several samplers.
        metrics: Names of figures; default: FID, or the first that is best low.

    Raises:
        InputError: A result has no figure of this name.
    """
    metrics = metrics or [usual_figure(results[0].figures, str(results[0].path))]
    names = _shortest_distinct([result.checkpoint for result in results])
    figure = Figure(figsize=(7 * len(metrics), 5), layout='constrained')
    row = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(row, metrics, strict=True):
        best = max if higher_is_better(metric) else min
        lines: dict[str, list[tuple[int, float]]] = {}
        for result, name in zip(results, names, strict=True):
            value = result.figures[find_figure(metric, result.figures, str(result.path))]
            lines.setdefault(name, []).append((result.num_evaluations, value))
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(*zip(*points, strict=True), 'o', color=f'C{number}', markersize=4)
            counts = sorted({x for x, _ in points})
            line = [best(y for at, y in points if at == x) for x in counts]
            style = '-' if number < 10 else '--'  # there are ten colours
            axes.plot(counts, line, style, color=f'C{number}', label=name)
        values = [result for points in lines.values() for _, result in points]
        if higher_is_better(metric) is False and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale('log')
        _count_evaluations(axes, {result.num_evaluations for result in results})
        axes.set_title(metric)
        axes.set_xlabel('network evaluations an image')
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small')
    return figure


def plot_against_widths(values: Mapping[float, float], metric: str) -> Figure:
    """A figure against the widths of averages.

    Args:
        values: By ``sigma_rel``, see :mod:`mmagic_cm.engine.posthoc_ema`.
        metric: The name of the figure.
    """
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    axes.plot(*zip(*sorted(values.items()), strict=True), 'o-', markersize=4)
    axes.set_title(metric)
    axes.set_xlabel('sigma_rel, width of the average over the length of the training')
    axes.grid(alpha=0.3)
    return figure


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
