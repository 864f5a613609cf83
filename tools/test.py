"""Judge a model by the metrics of its config: ``python tools/test.py CONFIG CKPT``."""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmagic_cm.apis import load_config
from mmagic_cm.checkpoints import register_safe_loaders, sampling_part
from mmagic_cm.command_line import add_ema_argument
from mmagic_cm.datasets.settings import merge_options
from mmagic_cm.errors import InputError, run_cli


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = argparse.ArgumentParser(description='Judge a model by the metrics of its config')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='file of weights')
    add_ema_argument(parser)
    parser.add_argument('--work-dir', help='of the log; default: work_dirs/NAME_OF_CONFIG')
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help="override settings, such as model.sampler.type='HeunSampler'",
    )
    return parser.parse_args()


def prepare_config(args: argparse.Namespace) -> Config:
    """The config without its training, and with what the command line changes."""
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    if cfg.get('test_evaluator') is None:
        raise InputError(f'{args.config} names no metrics: it has no test_evaluator.')
    cfg.model = sampling_part(cfg.model)
    cfg.work_dir = args.work_dir or str(Path('work_dirs') / Path(args.config).stem)
    for name in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'):
        cfg[name] = None
    cfg.custom_hooks = []
    cfg.load_from = None
    return cfg


def main() -> None:
    """Draw, judge, and print the figures."""
    args = parse_args()
    register_safe_loaders()
    runner = Runner.from_cfg(prepare_config(args))
    runner.model.load_weights(args.checkpoint, args.ema)
    figures = runner.test()
    for name, value in figures.items():
        print(f'{name:32}{value:.4g}')
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    run_cli(main)
