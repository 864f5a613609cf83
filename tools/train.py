"""Train a model: ``python tools/train.py CONFIG``."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mmagic_cm.cli import (
    Parser,
    add_config_options,
    add_launcher_arguments,
    check_launcher,
    join_processes,
)
from mmagic_cm.errors import InputError, doing, run_cli

if TYPE_CHECKING:
    from mmengine.config import Config

DTYPES = {'bf16': 'bfloat16', 'fp16': 'float16'}
# Optimizer wrappers that --amp replaces: their settings mean the same.
WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'MixedPrecisionOptimWrapper')


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Train a consistency model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where to save; default work_dirs/NAME_OF_CONFIG')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help='go on from the latest checkpoint of the work dir, or from a file',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bf16',
        choices=DTYPES,
        help='mixed precision, on a GPU or a CPU; alone: bf16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the images of an optimizer step (of all processes and '
        'accumulated batches) over auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='leave out the validation of the config'
    )
    parser.add_argument('--seed', type=int, help='of the run; default: the one of the config')
    add_config_options(parser, 'train_cfg.max_iters=100')
    add_launcher_arguments(parser)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank or 0))
    return args


def prepare_config(args: argparse.Namespace) -> 'Config':
    """The config with what the command line changes."""
    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets import merge_options

    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    if 'train_cfg' not in cfg:
        raise InputError(f'{args.config} is for sampling only: it has no train_cfg.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename or args.config).stem)
    if args.seed is not None:
        if args.seed < 0:
            raise InputError(f'--seed must be a whole number from 0 up, not {args.seed}.')
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': args.seed}
    if args.amp:
        use_mixed_precision(cfg, args.amp)
    if args.auto_scale_lr:
        scale_learning_rate(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    checkpoint = latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
    if checkpoint is not None:
        cfg.resume = True
        cfg.load_from = checkpoint
    return cfg


def use_mixed_precision(cfg: 'Config', precision: str) -> None:
    """What --amp does."""
    settings = dict(cfg.optim_wrapper)
    if settings.get('type', 'OptimWrapper') not in WRAPPERS:
        raise InputError(f'--amp does not know optim_wrapper.type={settings["type"]!r}.')
    if precision == 'bf16':
        settings.pop('loss_scale', None)
    wrapper = dict(type='MixedPrecisionOptimWrapper', dtype=DTYPES[precision])
    cfg.optim_wrapper = {**settings, **wrapper}


def scale_learning_rate(cfg: 'Config') -> None:
    """What --auto-scale-lr does."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise InputError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config.')
    cfg.auto_scale_lr.enable = True
    # MMEngine compares with the batches of one iteration.
    cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)


def latest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint with which a run goes on, also where the folder has been moved."""
    from mmengine.runner import find_latest_checkpoint

    with doing(f'reading {work_dir}/last_checkpoint'):
        checkpoint = find_latest_checkpoint(work_dir)
    if checkpoint is not None and not Path(checkpoint).is_file():
        moved = Path(work_dir) / Path(checkpoint).name
        return str(moved) if moved.is_file() else checkpoint
    return checkpoint


def prepare_processes(cfg: 'Config') -> None:
    """Join the processes of a launcher without GPUs, which MMEngine asks for; it does the rest."""
    import torch

    check_launcher(cfg.launcher)
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    join_processes(cfg.launcher)
    cfg.model_wrapper_cfg.device_ids = None


def main() -> None:
    """Train."""
    args = parse_args()
    from mmagic_cm.checkpoints import register_safe_loaders
    from mmagic_cm.datasets import fill_num_classes
    from mmagic_cm.engine import Runner

    cfg = prepare_config(args)
    register_safe_loaders()
    prepare_processes(cfg)
    fill_num_classes(cfg)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    run_cli(main)
