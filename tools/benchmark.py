"""Measure sampling or training: ``python tools/benchmark.py CONFIG --what sample|train``."""

import argparse
import json
import platform
from pathlib import Path

import torch
from mmengine.config import Config

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.sampling import COMPARED, benchmark_sampling
from mmagic_cm.benchmarks.training import PARTS, benchmark_training
from mmagic_cm.cli import Parser, add_config_options
from mmagic_cm.datasets.settings import fill_num_classes, merge_options
from mmagic_cm.errors import InputError, run_cli
from mmagic_cm.io.images import writing
from mmagic_cm.models.consistency_model import PRECISIONS


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Measure how fast sampling or training is')
    parser.add_argument('config', help='config file, or a released name')
    parser.add_argument('--what', choices=('sample', 'train'), default='sample')
    parser.add_argument('--batch-size', type=int, help="default: 4 to sample, else the config's")
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32')
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument(
        '--compile',
        nargs='?',
        const=True,
        default=False,
        metavar='MODE',
        help='torch.compile the network that samples; MODE such as reduce-overhead',
    )
    parser.add_argument(
        '--compare',
        nargs='+',
        choices=COMPARED,
        default=[],
        help='take turns with other implementations: reference: the plain arithmetic of the paper '
        'in fp32; diffusers: its UNet2DModel (to sample)',
    )
    parser.add_argument(
        '--checkpointing',
        choices=('config', 'on', 'off'),
        default='config',
        help='recompute activations in training; default: as the config has it',
    )
    parser.add_argument('--at', type=float, default=0.5, help='share of the run to train at')
    parser.add_argument('--repeats', type=int, default=5, help='measured rounds (default 5)')
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    add_config_options(parser, "model.sampler.type='HeunSampler'")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error('--repeats must be at least 1')
    if args.batch_size is not None and args.batch_size < 1:
        parser.error('--batch-size must be at least 1')
    if not 0 <= args.at <= 1:
        parser.error('--at is a share of the run, from 0 to 1')
    return args


def measure(args: argparse.Namespace, config: Config) -> dict:
    """All figures that were asked for."""
    shared = dict(device=args.device, precision=args.precision, repeats=args.repeats)
    if args.what == 'sample':
        return benchmark_sampling(
            config,
            batch_size=args.batch_size or 4,
            compile=args.compile,
            compare=args.compare,
            **shared,
        )
    if args.compile:
        raise InputError('--compile is for --what sample.')
    checkpointing = dict(config=None, on=True, off=False)[args.checkpointing]
    fill_num_classes(config)
    return benchmark_training(
        config,
        batch_size=args.batch_size,
        checkpointing=checkpointing,
        compare=args.compare,
        at=args.at,
        **shared,
    )


def machine(device: str | None) -> str:
    """Where the figures come from."""
    if torch.cuda.is_available() and device != 'cpu':
        name = torch.cuda.get_device_name()
    else:
        capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
        name = capabilities.get('cpu_name') or platform.processor() or platform.machine()
        special = [key for key in ('avx512_f', 'avx512_bf16', 'amx_bf16') if capabilities.get(key)]
        name = f'{name}, {torch.get_num_threads()} threads ({", ".join(special) or "no AVX-512"})'
    return f'{name}; torch {torch.__version__}'


def table(figures: dict) -> str:
    """The figures as lines of text."""
    lines = [
        f'{figures["machine"]}',
        f'{figures["what"]} of {figures["config"]}: batches of {figures["batch_size"]} in '
        f'{figures["precision"]}',
    ]
    if figures['what'] == 'sample':
        lines += [
            f'  {name:40}{seconds:9.4g} s a batch'
            + f'{figures["images_per_s"][name]:10.4g} images/s'
            + (f'   ours is {figures["speedup"][name]:.2f} times as fast' if name != 'ours' else '')
            for name, seconds in figures['seconds'].items()
        ]
        lines += [
            f'  the output of {name} differs from ours by {difference:.2g} of the largest value'
            for name, difference in figures['difference'].items()
        ]
    else:
        lines.append(f'  {figures["seconds"]:.4g} s a step, {figures["images_per_s"]:.4g} images/s')
        plain = figures.get('reference_parts', {})
        for name in PARTS:
            if name in figures['parts']:
                text = f'    {name:12}{figures["parts"][name]:9.4g} s'
                lines.append(text + (f'{plain[name]:12.4g} s' if name in plain else ''))
        for name, speedup in figures.get('speedup', {}).items():
            lines.append(
                f'  {name}: {figures["reference_seconds"]:.4g} s a step (second column); ours is '
                f'{speedup:.2f} times as fast'
            )
        lines.append(f'  data: {figures["data"]}')
    lines.append(
        f'  {figures["tflop_per_s"]:.3g} TFLOP/s. Its convolutions and attentions alone reach up '
        f'to {figures["best_tflop_per_s"]:.3g}, and would take '
        f'{figures["share_of_best_rate"]:.0%} of the time.'
    )
    lines.append(f'  peak memory {figures["peak_memory_gib"]:.3g} GiB')
    return '\n'.join(lines)


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    config = load_config(args.config)
    merge_options(config, args.cfg_options)
    figures = dict(machine=machine(args.device), what=args.what, config=args.config)
    figures |= measure(args, config)
    print(table(figures))
    if args.out:
        with writing(args.out):
            args.out.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    run_cli(main)
