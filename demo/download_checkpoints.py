"""Download released weights: ``python demo/download_checkpoints.py cd_imagenet64_lpips ...``.

Without a name it lists them. A download that was cut off goes on where it stopped.
"""

import argparse
from itertools import groupby

from mmagic_cm.cli import Parser
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description="Download released weights (the paper's, and EDM's) into the folder "
        'MMAGIC_CM_CACHE, or else into that of torch.hub'
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help='of models; default: list them')
    parser.add_argument('--all', action='store_true', help='all that are listed')
    parser.add_argument(
        '--inception', action='store_true', help='the Inception network that FID needs (91 MB)'
    )
    return parser.parse_args()


def print_list() -> None:
    """Print all released models with what was published for them, and where they are."""
    from mmagic_cm.checkpoints.released import RELEASED

    for family, models in groupby(RELEASED.values(), lambda model: model.family):
        print(family)
        for model in models:
            place = model.path if model.path.is_file() else model.url
            print(f'  {model.name:38}{model.figures:42}{place}')


def main() -> None:
    """Download and check, or list."""
    args = parse_args()
    from mmagic_cm.checkpoints.fetching import fetch
    from mmagic_cm.checkpoints.released import RELEASED, released_model

    names = list(RELEASED) if args.all else args.names
    for name in names:
        released_model(name)  # A wrong name is told before anything is downloaded.
    for name in names:
        print(f'{fetch(name)} is there, and is what it should be')
    if args.inception:
        from mmagic_cm.metrics import InceptionFeatures

        print(f'{InceptionFeatures().fetch()} is there, and is what it should be')
    if not names and not args.inception:
        print_list()


if __name__ == '__main__':
    run_cli(main)
