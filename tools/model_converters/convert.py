"""Convert weights: ``python tools/model_converters/convert.py SRC --to LAYOUT --out PATH``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmagic_cm.cli import Parser, add_ema_argument
from mmagic_cm.errors import InputError, run_cli

if TYPE_CHECKING:
    from mmagic_cm.checkpoints.conversion import Source

SUFFIXES = {'ours': ('.safetensors', '.pth'), 'openai': ('.pt', '.pth')}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Convert weights from one layout to another')
    parser.add_argument('source', help='file or folder of any layout, or a released name')
    parser.add_argument('--to', required=True, choices=('ours', 'openai', 'diffusers'))
    parser.add_argument(
        '--out',
        required=True,
        type=Path,
        help='ours: .safetensors or .pth; openai: .pt; diffusers: a new folder',
    )
    parser.add_argument(
        '--config',
        help='config file or released name; default: what the source says about itself',
    )
    add_ema_argument(parser)
    return parser.parse_args()


def convert(source: 'Source', layout: str, out: Path) -> str:
    """Write it, and say what there is to know; what the layout cannot express is an InputError."""
    from mmagic_cm.checkpoints.model_card import model_card

    said = f'{out} is written'
    if out.suffix not in SUFFIXES.get(layout, (out.suffix,)):
        raise InputError(f'{out}: end its name with {" or ".join(SUFFIXES[layout])}.')
    if layout == 'diffusers':
        pipeline = source.pipeline_settings()
        source.write_diffusers(out, model_card(source, out, {}, pipeline=pipeline))
        said += f': {pipeline.said}'
    elif layout == 'ours':
        source.write_ours(out)
    else:
        source.write_openai(out)
    return said


def main() -> None:
    """Read, write, and say where it is."""
    args = parse_args()
    from mmagic_cm.apis import load_config
    from mmagic_cm.checkpoints.conversion import read_source

    config = None if args.config is None else load_config(args.config)
    print(convert(read_source(args.source, args.ema, config), args.to, args.out))


if __name__ == '__main__':
    run_cli(main)
