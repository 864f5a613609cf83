"""Count parameters and operations: ``python tools/analysis_tools/get_flops.py CONFIG``."""

import argparse
import json
from pathlib import Path

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.costs import network_costs
from mmagic_cm.cli import Parser, add_config_options
from mmagic_cm.datasets import fill_num_classes, merge_options
from mmagic_cm.errors import run_cli
from mmagic_cm.io.images import writing


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description='Count the parameters of a network, and the operations of an evaluation, of '
        'an image drawn and of a training step; needs neither weights nor a GPU'
    )
    parser.add_argument('config', help='config file, or a released name')
    parser.add_argument('--batch-size', type=int, default=1, help='images of a batch (default 1)')
    parser.add_argument(
        '--at', type=float, default=0.5, help='share of the run at which a step is (default 0.5)'
    )
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    add_config_options(parser, "model.sampler.type='HeunSampler'")
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error('--batch-size must be at least 1')
    if not 0 <= args.at <= 1:
        parser.error('--at is a share of the run, from 0 to 1')
    return args


def table(figures: dict) -> str:
    """The figures as lines of text."""
    kinds = figures['parameters_by_kind'].items()
    size = figures['batch_size']
    sampling, training = figures['sampling'], figures.get('training')
    rows = [
        ('evaluation', 1, figures['evaluation']),
        (f'image by {sampling["sampler"]}', sampling['evaluations'], sampling),
    ]
    if training:
        rows.append(('training step', training['forward_passes'], training))
    lines = [
        f'{figures["config"]}: images of {" x ".join(map(str, figures["image_shape"]))}',
        f'  {figures["parameters"] / 1e6:.4g} M parameters: '
        + ', '.join(f'{name} {count / 1e6:.4g}' for name, count in kinds),
        f'  {"":32}{"forward passes":>16}{"GFLOP an image":>18}{f"TFLOP a batch of {size}":>24}',
        *(
            f'  {name:32}{passes:16}{cost["gflop_per_image"]:18.5g}{cost["tflop_per_batch"]:24.5g}'
            for name, passes, cost in rows
        ),
    ]
    if training:
        roles = ', '.join(f'{role} {n}' for role, n in training['evaluations'].items() if n)
        lines.append(
            f'  The step at {training["at"]:g} of the run evaluates: {roles}; the online one, with '
            f'gradients, counts for three.'
        )
        if training['not_counted']:
            lines.append(f'  Not counted: {", ".join(training["not_counted"])}.')
    return '\n'.join(lines)


def main() -> None:
    """Count, print, write."""
    args = parse_args()
    config = load_config(args.config)
    merge_options(config, args.cfg_options)
    fill_num_classes(config)
    figures = dict(config=args.config) | network_costs(config, args.batch_size, args.at)
    print(table(figures))
    if args.out:
        with writing(args.out):
            args.out.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    run_cli(main)
