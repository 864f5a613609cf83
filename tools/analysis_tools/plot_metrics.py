"""Draw how good models are, against iterations or against network evaluations.

``python tools/analysis_tools/plot_metrics.py runs WORK_DIR [WORK_DIR ...] [--metric fid]``
``python tools/analysis_tools/plot_metrics.py evaluations RESULT.json [RESULT.json ...]``
"""

import argparse
from pathlib import Path

from mmagic_cm.cli import Parser
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Draw how good models are')
    commands = parser.add_subparsers(dest='command', required=True)
    runs = commands.add_parser('runs', help='figures of the validation against iterations')
    runs.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    evaluations = commands.add_parser(
        'evaluations', help='what tools/test.py --out wrote, against network evaluations'
    )
    evaluations.add_argument('results', nargs='+', type=Path, metavar='RESULT.json')
    for command in (runs, evaluations):
        command.add_argument(
            '--metric',
            nargs='+',
            default=[],
            help='figures, a panel each; default: FID, or the first that is best low',
        )
        command.add_argument(
            '--out', type=Path, help='the picture, a .png; default: metrics.png by the first input'
        )
    return parser.parse_args()


def main() -> None:
    """Draw and save."""
    args = parse_args()
    from mmagic_cm.plotting.metrics import (
        draw_against_evaluations,
        draw_against_iterations,
        read_result,
    )
    from mmagic_cm.plotting.runs import save_figure

    if args.command == 'runs':
        figure = draw_against_iterations(args.work_dirs, args.metric)
        folder = args.work_dirs[0]
    else:
        figure = draw_against_evaluations([*map(read_result, args.results)], args.metric)
        folder = args.results[0].parent
    out = args.out or folder / 'metrics.png'
    save_figure(figure, out)
    print(f'Drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
