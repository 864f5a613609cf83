"""Publish a model: ``python tools/model_converters/publish_model.py CKPT OUT``.

Of a training run it takes the averaged weights, leaves the optimizer, puts the config inside, the
beginning of the file's SHA-256 into its name, and a model card beside it.
"""

import argparse
from pathlib import Path

from mmagic_cm.cli import Parser, Settings, add_ema_argument
from mmagic_cm.errors import InputError, run_cli

FORMATS = {'safetensors': '.safetensors', 'pth': '.pth'}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint of any layout')
    parser.add_argument('out', help='name of the published file, with or without its suffix')
    parser.add_argument('--format', choices=FORMATS, help='default: by the suffix, or safetensors')
    add_ema_argument(parser)
    parser.add_argument('--config', help='config file or released name; default: the one inside')
    parser.add_argument('--data', help='what it was trained on, for the card')
    parser.add_argument(
        '--license', help="of the weights: 'mit', say; default: the source's, if known"
    )
    parser.add_argument(
        '--metrics', nargs='+', action=Settings, default={}, metavar='NAME=VALUE', help='of it'
    )
    return parser.parse_args()


def choose_name(out: str, kind: str | None) -> Path:
    """OUT with the suffix of the format; a suffix of another format is an error."""
    out = Path(out)
    given = {suffix: name for name, suffix in FORMATS.items()}.get(out.suffix)
    if out.suffix == '.pt' or (kind and given not in (None, kind)):
        raise InputError(f'{out} does not end like a file of the format {kind or "safetensors"}.')
    # Not with_suffix: in "model-v1.5" the end is no suffix.
    return out if given else out.with_name(out.name + FORMATS[kind or 'safetensors'])


def main() -> None:
    """Write the file and its card, and say where they are."""
    args = parse_args()
    from mmagic_cm.apis import load_config
    from mmagic_cm.checkpoints.conversion import read_source
    from mmagic_cm.checkpoints.model_card import model_card
    from mmagic_cm.io.digests import file_digest
    from mmagic_cm.io.files import in_place_of

    path = choose_name(args.out, args.format)
    config = None if args.config is None else load_config(args.config)
    source = read_source(args.source, args.ema, config)
    # Not by its own name, which could be the source's.
    fresh = path.with_name(f'.unhashed-{path.name}')
    source.write_ours(fresh)
    published = path.with_name(f'{path.stem}-{file_digest(fresh)[:8]}{path.suffix}')
    fresh.replace(published)
    card = published.with_suffix('.md')
    with in_place_of(card) as text:
        text.write_text(
            model_card(source, published, args.metrics, args.data, args.license), encoding='utf-8'
        )
    print(f'{published} and {card.name} are written')


if __name__ == '__main__':
    run_cli(main)
