"""Train a model: ``python tools/train.py CONFIG``."""

import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner, find_latest_checkpoint

from mmagic_cm.apis import load_config
from mmagic_cm.checkpoints import register_safe_loaders
from mmagic_cm.errors import InputError, run_cli


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = argparse.ArgumentParser(description='Train a consistency model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where to save; default work_dirs/NAME_OF_CONFIG')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help='go on from the latest checkpoint of the work dir, or from a file',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16, on a GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--seed', type=int, help='of the run; default: the one of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings, such as train_cfg.max_iters=100',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='of the job'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def prepare_config(args: argparse.Namespace) -> Config:
    """The config with what the command line changes."""
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    if 'train_cfg' not in cfg:
        raise InputError(f'{args.config} is for sampling only: it has no train_cfg.')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.seed is not None:
        if args.seed < 0:
            raise InputError(f'--seed must be a whole number from 0 up, not {args.seed}.')
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': args.seed}
    if args.amp:
        if not torch.cuda.is_available():
            raise InputError('--amp needs a GPU.')
        cfg.optim_wrapper = {**cfg.optim_wrapper, 'type': 'AmpOptimWrapper', 'dtype': 'bfloat16'}
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config.')
        cfg.auto_scale_lr.enable = True
    checkpoint = find_latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
    if checkpoint is not None:
        cfg.resume = True
        cfg.load_from = checkpoint
    return cfg


def join_processes(cfg: Config) -> None:
    """Let the processes of a launcher find each other without GPUs, which MMEngine asks for."""
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError('--launcher pytorch is for processes that torchrun has started.')
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        cfg.model_wrapper_cfg.device_ids = None


def main() -> None:
    """Train."""
    cfg = prepare_config(parse_args())
    register_safe_loaders()
    join_processes(cfg)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    run_cli(main)
