"""Choose the length of a run's average when it is over (arXiv:2312.02696).

``python tools/model_converters/posthoc_ema.py WORK_DIR --sigma-rel 0.07 --out FILE``

From the snapshots that ``EMAHook(sigma_rels=(0.05, 0.10), snapshot_interval=...)`` has left, at the
time of the last one. Several widths are written into a folder; with ``--metric`` the evaluator of
the config judges each of them.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from mmagic_cm.cli import Parser, add_config_options
from mmagic_cm.errors import InputError, run_cli

SUFFIXES = ('.safetensors', '.pth')


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description="Choose the length of a run's average when it is over",
        epilog='example: %(prog)s work_dirs/run --sigma-rel 0.05 0.06 0.07 --out sweep '
        '--metric fid',
    )
    parser.add_argument('work_dir', type=Path, help='of the run, with its snapshots/')
    parser.add_argument(
        '--sigma-rel',
        type=float,
        nargs='+',
        required=True,
        metavar='WIDTH',
        help='of the average, over the length of the training; 0.05 to 0.15',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='a .safetensors or .pth; of several widths, or with --metric, a folder',
    )
    parser.add_argument(
        '--metric', help='judge each of them, and draw this figure against their widths'
    )
    parser.add_argument('--config', help='with a test_evaluator; default: the one in WORK_DIR')
    parser.add_argument('--num-samples', type=int, help="images to draw; default: the config's")
    add_config_options(parser, 'test_dataloader.batch_size=100')
    return parser.parse_args()


def choose_paths(args: argparse.Namespace) -> dict[float, Path]:
    """Where each average goes."""
    if len(args.sigma_rel) > 1 or args.metric:
        if args.out.suffix in SUFFIXES:
            raise InputError(f'{args.out}: several averages, or --metric, take a folder.')
        return {width: args.out / f'sigma_rel_{width:g}.safetensors' for width in args.sigma_rel}
    if args.out.suffix not in SUFFIXES:
        raise InputError(f'{args.out}: end its name with {" or ".join(SUFFIXES)}.')
    return {args.sigma_rel[0]: args.out}


def choose_config(args: argparse.Namespace) -> str:
    """The config that says how to judge."""
    if args.config:
        return args.config
    found = sorted(args.work_dir.glob('*.py'))
    if len(found) != 1:
        raise InputError(f'{args.work_dir} holds {len(found)} configs: name one by --config.')
    return str(found[0])


def write(work_dir: Path, paths: Mapping[float, Path]) -> None:
    """Write the averages, one after the other."""
    from mmagic_cm.checkpoints import Checkpoint, sampling_config
    from mmagic_cm.checkpoints.layouts import SIGMA_REL, network_weights
    from mmagic_cm.checkpoints.writing import write_ours
    from mmagic_cm.engine.posthoc_ema import RELIABLE, find_snapshots, reconstruct

    snapshots = find_snapshots(work_dir)
    last = Checkpoint(snapshots[-1].path)
    for width, path in paths.items():
        if not RELIABLE[0] <= width <= RELIABLE[1]:
            low, high = RELIABLE
            print(
                f'warning: {width:g} is outside of {low:g} to {high:g}, where two averages of 0.05 '
                f'and 0.1 tell enough.',
                file=sys.stderr,
            )
        weights = network_weights(reconstruct(snapshots, width))
        facts = dict(ema=f'{SIGMA_REL}{width}', iter=last.meta['iter'])
        write_ours(weights, sampling_config(last.config), path, **facts)
        print(f'{path} is written')


def judge(args: argparse.Namespace, paths: Mapping[float, Path]) -> None:
    """Judge each average; write the figures beside it, and draw one of them."""
    from mmagic_cm.engine.hooks.curriculum import unwrapped
    from mmagic_cm.evaluation.report import write_report
    from mmagic_cm.evaluation.runs import describe_judging, judging_runner
    from mmagic_cm.metrics.names import find_figure
    from mmagic_cm.plotting.metrics import plot_against_widths
    from mmagic_cm.plotting.runs import save_figure

    config = choose_config(args)
    options = {'log_level': 'WARNING', **args.cfg_options}
    first, values = next(iter(paths.values())), {}
    runner = judging_runner(config, first, None, args.out, options, num_samples=args.num_samples)
    for width, path in paths.items():
        unwrapped(runner).load_weights(path)
        figures = runner.test()
        write_report(path.with_suffix('.json'), figures, describe_judging(runner, path))
        metric = find_figure(args.metric, figures, f'the test_evaluator of {config}')
        values[width] = figures[metric]
        print(f'sigma_rel {width:g}: {metric} {values[width]:.5g}')
    out = args.out / 'sigma_rel.png'
    save_figure(plot_against_widths(values, metric), out)
    print(f'Drawn in {out}')


def main() -> None:
    """Write the averages, and judge them if asked to."""
    args = parse_args()
    paths = choose_paths(args)
    write(args.work_dir, paths)
    if args.metric:
        judge(args, paths)


if __name__ == '__main__':
    run_cli(main)
