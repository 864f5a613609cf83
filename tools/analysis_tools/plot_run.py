"""Draw the course of runs: ``python tools/analysis_tools/plot_run.py WORK_DIR [WORK_DIR ...]``."""

import argparse
import json
import re
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from mmagic_cm.errors import InputError, run_cli

# Title, names of the figures in the log, and whether the axis is logarithmic.
PANELS = [
    ('loss', r'loss', True),
    ('loss by noise level', r'loss_sigma[<>].*', True),
    ('learning rate', r'lr', False),
    ('number of scales N', r'num_scales', False),
    ('target EMA', r'target_ema', False),
]
STYLES = ['-', '--', '-.', ':']
MAX_GRIDS = 5


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Draw loss, learning rate, curriculum and sample grids of one or more runs'
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--out', type=Path, help='the picture, a .png; default: run.png in the first WORK_DIR'
    )
    return parser.parse_args()


def read_log(work_dir: Path) -> dict[str, dict[int, float]]:
    """All figures of a run by iteration; where a resumed run repeats some, it counts."""
    if not work_dir.is_dir():
        raise InputError(f'There is no folder {work_dir}.')
    paths = sorted(work_dir.glob('*/vis_data/scalars.json'))
    figures: dict[str, dict[int, float]] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # a run that was killed while it wrote
                continue
            for name, value in entry.items():
                if 'loss' in entry and isinstance(value, int | float):
                    figures.setdefault(name, {})[entry['step']] = value
    if not figures:
        raise InputError(f'{work_dir} holds no log of a training (TIME/vis_data/scalars.json).')
    return figures


def find_grids(work_dir: Path) -> list[tuple[int, Path]]:
    """Iterations and files of at most ``MAX_GRIDS`` sample grids, first and last among them."""
    grids = []
    for path in (work_dir / 'samples').glob('iter_*.png'):
        match = re.fullmatch(r'iter_(\d+)', path.stem)
        if match:
            grids.append((int(match[1]), path))
    grids.sort()
    if len(grids) > MAX_GRIDS:
        share = (len(grids) - 1) / (MAX_GRIDS - 1)
        grids = [grids[round(i * share)] for i in range(MAX_GRIDS)]
    return grids


def read_picture(path: Path) -> Image.Image:
    """A picture as colours."""
    try:
        with Image.open(path) as image:
            return image.convert('RGB')
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error}.') from error


def draw_panel(axes: Axes, pattern: str, logarithmic: bool, logs: dict[str, dict]) -> None:
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
            plt.Line2D([], [], color='black', linestyle=STYLES[i % len(STYLES)])
            for i in range(len(levels))
        ]
        names = [name.replace('loss_sigma', r'$\sigma$ ') for name in levels]
        axes.legend(handles, names, fontsize='small')
    axes.set_xlabel('iteration')
    axes.grid(alpha=0.3)


def draw(work_dirs: list[Path]) -> plt.Figure:
    """The whole picture: panels in rows of three, then a row of sample grids a run."""
    logs = {str(path): read_log(path) for path in work_dirs}
    names = {name for log in logs.values() for name in log}
    panels = [panel for panel in PANELS if any(re.fullmatch(panel[1], name) for name in names)]
    grids = {str(path): find_grids(path) for path in work_dirs}
    grids = {name: found for name, found in grids.items() if found}
    num_rows = -(-len(panels) // 3)
    figure = plt.figure(figsize=(15, 3.5 * (num_rows + len(grids))), layout='constrained')
    rows = figure.subfigures(num_rows + len(grids), 1, squeeze=False)[:, 0]
    for row in range(num_rows):
        shown = panels[3 * row : 3 * row + 3]
        for axes, (title, pattern, logarithmic) in zip(
            rows[row].subplots(1, 3), [*shown, *[(None,) * 3] * (3 - len(shown))], strict=True
        ):
            if title is None:
                axes.set_axis_off()
                continue
            draw_panel(axes, pattern, logarithmic, logs)
            axes.set_title(title)
    for row, (name, found) in zip(rows[num_rows:], grids.items(), strict=True):
        row.suptitle(name)
        for axes, (iteration, path) in zip(
            row.subplots(1, len(found), squeeze=False)[0], found, strict=True
        ):
            axes.imshow(read_picture(path))
            axes.set_title(f'iteration {iteration}', fontsize='small')
            axes.set_axis_off()
    handles = [plt.Line2D([], [], color=f'C{number}') for number in range(len(logs))]
    figure.legend(handles, [*logs], loc='outside upper center', ncols=min(len(logs), 3))
    return figure


def main() -> None:
    """Draw and save."""
    args = parse_args()
    out = args.out or args.work_dirs[0] / 'run.png'
    if out.suffix != '.png':
        raise InputError(f'--out must end in .png, not {out.name!r}.')
    figure = draw(args.work_dirs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=100)
    except OSError as error:
        raise InputError(f'{out} cannot be written: {error}.') from error
    print(f'The course of the run is drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
