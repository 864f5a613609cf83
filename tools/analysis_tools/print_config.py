"""Print a whole config: ``python tools/analysis_tools/print_config.py CONFIG``."""

import argparse
import sys
from pathlib import Path

from mmagic_cm.cli import Parser, add_config_options
from mmagic_cm.errors import InputError, run_cli


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Print a config with all its bases, as tools/train.py trains it')
    parser.add_argument('config', help='config file, or a released name')
    parser.add_argument('--out', type=Path, help='write it here, too: a .py that loads again')
    add_config_options(parser, 'train_cfg.max_iters=100')
    return parser.parse_args()


def main() -> None:
    """Print, and write."""
    args = parse_args()
    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets import fill_num_classes, merge_options
    from mmagic_cm.io.files import writing

    if args.out and args.out.suffix != '.py':
        raise InputError(f'{args.out} does not name a config: end it with .py.')
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    try:
        fill_num_classes(cfg)
    except InputError as error:
        # Whoever reads a config may not have its data.
        print(f"num_classes stays 'auto', since the data cannot be read: {error}", file=sys.stderr)
    text = cfg.pretty_text
    print(text)
    if args.out:
        with writing(args.out):
            args.out.write_text(text)


if __name__ == '__main__':
    run_cli(main)
