"""Draw the course of runs: ``python tools/analysis_tools/plot_run.py WORK_DIR [WORK_DIR ...]``."""

import argparse
from pathlib import Path

from mmagic_cm.errors import InputError, run_cli
from mmagic_cm.run_plots import draw_runs


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


def main() -> None:
    """Draw and save."""
    args = parse_args()
    out = args.out or args.work_dirs[0] / 'run.png'
    if out.suffix != '.png':
        raise InputError(f'--out must end in .png, not {out.name!r}.')
    figure = draw_runs(args.work_dirs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=100)
    except OSError as error:
        raise InputError(f'{out} cannot be written: {error}.') from error
    print(f'The course of the run is drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
