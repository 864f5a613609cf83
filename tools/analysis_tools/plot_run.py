"""Draw the course of runs: ``python tools/analysis_tools/plot_run.py WORK_DIR [WORK_DIR ...]``."""

import argparse
from pathlib import Path

from mmagic_cm.cli import Parser
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description='Draw loss, learning rate, curriculum, validation and sample grids of runs'
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--metric', nargs='+', default=[], help='only these figures of the validation, such as fid'
    )
    parser.add_argument(
        '--out', type=Path, help='the picture, a .png; default: run.png in the first WORK_DIR'
    )
    return parser.parse_args()


def main() -> None:
    """Draw and save."""
    args = parse_args()
    from mmagic_cm.plotting.runs import plot_runs, save_figure

    out = args.out or args.work_dirs[0] / 'run.png'
    save_figure(plot_runs(args.work_dirs, metrics=args.metric), out)
    print(f'The course of the run is drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
