"""Draw how good models are, against network evaluations.

``python tools/analysis_tools/plot_metrics.py RESULT.json [RESULT.json ...] [--metric fid]``
"""

import argparse
from pathlib import Path

from mmagic_cm.cli import Parser
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Draw how good models are, against network evaluations')
    parser.add_argument(
        'results',
        nargs='+',
        type=Path,
        metavar='RESULT.json',
        help='what tools/test.py --out wrote',
    )
    parser.add_argument(
        '--metric',
        nargs='+',
        default=[],
        help='figures, a panel each; default: FID, or the first that is best low',
    )
    parser.add_argument(
        '--out', type=Path, help='the picture, a .png; default: metrics.png by the first input'
    )
    return parser.parse_args()


def main() -> None:
    """Draw and save."""
    args = parse_args()
    from mmagic_cm.plotting.metrics import plot_against_evaluations, read_result
    from mmagic_cm.plotting.runs import save_figure

    out = args.out or args.results[0].parent / 'metrics.png'
    save_figure(plot_against_evaluations([*map(read_result, args.results)], args.metric), out)
    print(f'Drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
