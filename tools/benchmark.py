"""Measure sampling or training: ``python tools/benchmark.py CONFIG --what sample|train``."""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from mmagic_cm.cli import PRECISIONS, Parser, add_config_options, parse_count, parse_share
from mmagic_cm.errors import run_cli


def table(figures: Mapping) -> str:
    """The figures as lines of text."""
    lines = [
        figures['machine'],
        f'{figures["what"]} of {figures["config"]}: batches of {figures["batch_size"]} in '
        f'{figures["precision"]}, {figures["tflop"]:.3g} TFLOP each, '
        f'{figures["tflop_per_s"]:.3g} TFLOP/s',
    ]
    for name, seconds in figures['seconds'].items():
        line = f'  {name:34}{seconds:9.4g} s{figures["images_per_s"][name]:10.4g} images/s'
        if name in figures['speedup']:
            line += f'   ours is {figures["speedup"][name]:.2f} times as fast'
        if name in figures['difference']:
            line += f', its output differs by {figures["difference"][name]:.1g} of the largest'
        lines.append(line)
    if 'peak_memory_gib' in figures:
        lines.append(f'  peak memory {figures["peak_memory_gib"]:.3g} GiB')
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Measure how fast sampling or training is')
    parser.add_argument('config', help='config file, or a released name')
    parser.add_argument('--what', choices=('sample', 'train'), default='sample')
    parser.add_argument(
        '--batch-size', type=parse_count, help="default: 4 to sample, else the config's"
    )
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
        choices=('reference', 'diffusers'),
        default=[],
        help='take turns with other implementations: reference: the plain arithmetic of the paper '
        'in fp32; diffusers: its UNet2DModel (to sample)',
    )
    parser.add_argument('--at', type=parse_share, default=0.5, help='share of the run to train at')
    parser.add_argument('--repeats', type=parse_count, default=5, help='measured rounds (5)')
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    parser.add_argument(
        '--profile', action='store_true', help="print what took longest in one of ours' calls"
    )
    add_config_options(parser, "model.sampler.type='HeunSampler'")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    import torch
    from benchmark_calls import machine, sampling, speedups, take_turns, training

    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets.settings import merge_options
    from mmagic_cm.io.devices import choose_device
    from mmagic_cm.io.files import writing

    args.device = choose_device(args.device)
    config = load_config(args.config)
    merge_options(config, args.cfg_options)
    calls, known = (sampling if args.what == 'sample' else training)(args, config)
    seconds = take_turns(calls, args.device, args.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = dict(
        machine=machine(args.device),
        what=args.what,
        config=args.config,
        precision=args.precision,
        **known,
        seconds=medians,
        images_per_s={name: known['batch_size'] / value for name, value in medians.items()},
        speedup=speedups(seconds),
        tflop_per_s=known['tflop'] / medians['ours'],
    )
    if args.device.type == 'cuda':
        figures['peak_memory_gib'] = torch.cuda.max_memory_allocated(args.device) / 2**30
    print(table(figures))
    if args.profile:
        with torch.profiler.profile() as profile:
            calls['ours']()
        print(profile.key_averages().table(sort_by='self_cpu_time_total', row_limit=15))
    if args.out:
        with writing(args.out):
            args.out.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    run_cli(main)
