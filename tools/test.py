"""Judge a model by the metrics of its config: ``python tools/test.py CONFIG CKPT``."""

import argparse
from pathlib import Path

from mmagic_cm.cli import (
    Parser,
    add_launcher_arguments,
    add_model_arguments,
    add_sampler_argument,
)
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Judge a model by the metrics of its config')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help="file of weights, or 'auto': the config's own")
    parser.add_argument('--work-dir', help='of the log; default: work_dirs/NAME_OF_CONFIG')
    parser.add_argument(
        '--out', type=Path, help='write the figures here, as JSON; default: metrics.json by the log'
    )
    parser.add_argument('--num-samples', type=int, help="images to draw; default: the config's")
    add_sampler_argument(parser)
    add_model_arguments(parser, 'test_dataloader.batch_size=100')
    add_launcher_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Draw, judge, and print the figures."""
    args = parse_args()
    from mmengine.dist import is_main_process

    from mmagic_cm.apis import load_config
    from mmagic_cm.evaluation.report import format_about, format_table, write_report
    from mmagic_cm.evaluation.runs import caveats, describe_judging, judging_runner, published
    from mmagic_cm.sampling.choice import choose_sampler

    config = load_config(args.config)
    runner = judging_runner(
        config,
        args.checkpoint,
        args.ema,
        args.work_dir,
        # The bar says what a log would; cfg-options may ask for the log.
        {'log_level': 'WARNING', **args.cfg_options},
        args.launcher,
        sampler=choose_sampler(config.get('model', {}).get('sampler'), args.sampler),
        num_samples=args.num_samples,
        seed=args.seed,
        precision=args.precision,
    )
    figures = runner.test()
    if not is_main_process():
        return
    paper, notes = published(runner), caveats(runner, args.checkpoint)
    about = dict(describe_judging(runner, args.checkpoint), config=args.config, ema=args.ema)
    print('\n\n'.join([format_table(figures, paper), format_about(about), *notes]))
    out = args.out or Path(runner.log_dir) / 'metrics.json'
    write_report(out, figures, dict(about, paper=paper, notes=notes))
    print(f'\nThe same is in {out}.')


if __name__ == '__main__':
    run_cli(main)
