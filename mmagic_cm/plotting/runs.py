"""The course of training runs: what their logs say, drawn."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import InputError, doing
from ..io.files import existing_file, writing
from ..io.images import decode_image
from ..metrics.names import find_figure, higher_is_better

# Title, names of the figures in the log, and whether the axis is logarithmic.
PANELS = [
    ('loss', r'loss', True),
    ('loss by noise level', r'loss_sigma_.*', True),
    ('learning rate', r'lr', False),
    ('number of scales N', r'num_scales', False),
    ('target EMA', r'target_ema', False),
]
# Of an entry in a log, no figures of the model.
_NO_FIGURES = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
STYLES = ['-', '--', '-.', ':']
MAX_GRIDS = 5
MAX_SIDE = 2048  # of a grid as drawn: Matplotlib takes fifty bytes a pixel
_LOGS = '*/vis_data/scalars.json'


def is_run(work_dir: Path) -> bool:
    """Whether a folder holds the log of a training."""
    return any(work_dir.glob(_LOGS))


def read_log(work_dir: Path) -> tuple[dict, dict]:
    """The figures of a training, and those of its validation, by name and iteration.

    Where a resumed run repeats iterations, it counts.

    Raises:
        InputError: There is no log.
    """
    training: dict[str, dict[int, float]] = {}
    validation: dict[str, dict[int, float]] = {}
    with doing(f'reading the log of {work_dir}'):
        for path in sorted(work_dir.glob(_LOGS)):
            for line in existing_file(path).read_text(encoding='utf-8').splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # a run that was killed while it wrote
                    continue
                figures = training if 'loss' in entry else validation
                for name, value in entry.items():
                    if isinstance(value, int | float) and name not in _NO_FIGURES:
                        figures.setdefault(name, {})[entry['step']] = value
    if not training:
        raise InputError(f'{work_dir} holds no log of a training (TIME/vis_data/scalars.json).')
    return training, validation


def find_grids(work_dir: Path, at_most: int | None = None) -> list[tuple[int, Path]]:
    """Iterations and files of the sample grids; of many ``at_most``, first and last among them."""
    grids = []
    for path in (work_dir / 'samples').glob('iter_*.png'):
        match = re.fullmatch(r'iter_(\d+)', path.stem)
        if match:
            grids.append((int(match[1]), path))
    grids.sort()
    if at_most is not None and len(grids) > at_most:
        share = (len(grids) - 1) / (at_most - 1)
        grids = [grids[round(i * share)] for i in range(at_most)]
    return grids


def plot_panel(axes: Axes, pattern: str, logarithmic: bool, logs: dict[str, dict]) -> None:
    """One figure (or one for each noise level) of all runs: a colour a run, a style a level."""
    levels = sorted({name for log in logs.values() for name in log if re.fullmatch(pattern, name)})
    positive = True
    for number, log in enumerate(logs.values()):
        for style, name in enumerate(levels):
            points = sorted(log.get(name, {}).items())
            if points:
                steps, values = zip(*points, strict=True)
                positive &= min(values) > 0
                marker = '.' if len(points) == 1 else None
                axes.plot(
                    steps, values, STYLES[style % len(STYLES)], color=f'C{number}', marker=marker
                )
    if logarithmic and positive:
        axes.set_yscale('log')
    if len(levels) > 1:
        handles = [
            Line2D([], [], color='black', linestyle=STYLES[i % len(STYLES)])
            for i in range(len(levels))
        ]
        names = [name.replace('loss_sigma_', r'$\sigma$ ') for name in levels]
        axes.legend(handles, names, fontsize='small')
    axes.set_xlabel('iteration')
    axes.grid(alpha=0.3)


def plot_runs(
    work_dirs: Sequence[Path],
    with_grids: bool = True,
    names: Sequence[str] | None = None,
    metrics: Sequence[str] = (),
) -> Figure:
    """The whole picture: panels in rows of three, then a row of sample grids a run.

    The figure belongs to no window and to no list of pyplot's, so that any thread may draw it.

    Args:
        work_dirs: Folders of the runs.
        with_grids: Draw their sample grids, too, at most ``MAX_GRIDS`` of each.
        names: What to call the runs; default: their folders.
        metrics: Draw these figures of their validation alone.

    Raises:
        InputError: A folder without a log, or without a metric; a grid that cannot be read.
    """
    runs = dict(zip(names or map(str, work_dirs), work_dirs, strict=True))
    logs, judged = {}, dict.fromkeys(metrics)
    for name, path in runs.items():
        training, validation = read_log(path)
        if metrics:
            logs[name] = {m: validation[find_figure(m, validation, name)] for m in metrics}
        else:
            logs[name] = training | validation
            judged |= dict.fromkeys(name for name in validation if not name.endswith('_std'))
    panels = [(name, re.escape(name), higher_is_better(name) is False) for name in judged]
    if not metrics:
        logged = {name for log in logs.values() for name in log}
        seen = [panel for panel in PANELS if any(re.fullmatch(panel[1], name) for name in logged)]
        panels = seen + panels
    with_grids = with_grids and not metrics
    grids = {name: find_grids(path, MAX_GRIDS) for name, path in runs.items() if with_grids}
    grids = {name: found for name, found in grids.items() if found}
    num_rows = -(-len(panels) // 3)
    figure = Figure(figsize=(15, 3.5 * (num_rows + len(grids))), layout='constrained')
    rows = figure.subfigures(num_rows + len(grids), 1, squeeze=False)[:, 0]
    for row in range(num_rows):
        shown = panels[3 * row : 3 * row + 3]
        for axes, (title, pattern, logarithmic) in zip(
            rows[row].subplots(1, 3), [*shown, *[(None,) * 3] * (3 - len(shown))], strict=True
        ):
            if title is None:
                axes.set_axis_off()
                continue
            plot_panel(axes, pattern, logarithmic, logs)
            axes.set_title(title)
    for row, (name, found) in zip(rows[num_rows:], grids.items(), strict=True):
        row.suptitle(name)
        for axes, (iteration, path) in zip(
            row.subplots(1, len(found), squeeze=False)[0], found, strict=True
        ):
            grid = decode_image(path)
            grid.thumbnail((MAX_SIDE, MAX_SIDE))
            axes.imshow(grid)
            axes.set_title(f'iteration {iteration}', fontsize='small')
            axes.set_axis_off()
    handles = [Line2D([], [], color=f'C{number}') for number in range(len(logs))]
    figure.legend(handles, [*logs], loc='outside upper center', ncols=min(len(logs), 3))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG.

    Raises:
        InputError: The name ends otherwise.
    """
    if path.suffix != '.png':
        raise InputError(f'--out must end in .png, not {path.name!r}.')
    with writing(path):
        figure.savefig(path, dpi=100)
