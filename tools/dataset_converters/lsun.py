"""Fetch a category of LSUN, and resize it once.

The data sets read LSUN's LMDB as it is and crop it while training, so for 256 x 256 this is all:

    python tools/dataset_converters/lsun.py --download bedroom

For another size, write a smaller LMDB:

    python tools/dataset_converters/lsun.py SOURCE --out data/lsun/bedroom_64.lmdb --size 64
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from mmagic_cm.cli import Parser, add_conversion_arguments
from mmagic_cm.errors import InputError, run_cli


class Category(NamedTuple):
    """Where a category is, the folder in its zip, and how many pictures it has."""

    url: str
    folder: str
    count: int


CATEGORIES = dict(
    bedroom=Category(
        'http://dl.yf.io/lsun/scenes/bedroom_train_lmdb.zip', 'bedroom_train_lmdb', 3_033_042
    ),
    cat=Category('http://dl.yf.io/lsun/objects/cat.zip', 'cat', 1_657_266),
)


def fetch(name: str, root: str) -> str:
    """Download and unpack a category below ``root``; returns the folder of its LMDB."""
    from mmagic_cm.io.download import download, unpack_member

    url, name, _ = CATEGORIES[name]
    folder = Path(root, name)
    if not (folder / 'data.mdb').is_file():
        archive = download(url, Path(root, url.rsplit('/', 1)[-1]))
        unpack_member(archive, f'{name}/data.mdb', folder)
        print(f'{archive} is not needed any more.')
    return str(folder)


def main() -> None:
    """Fetch, convert, or both."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='?', help='folder of an LMDB of LSUN, or of pictures')
    parser.add_argument('--download', choices=CATEGORIES, metavar='bedroom|cat')
    parser.add_argument('--root', default='data/lsun', help='where to put what is downloaded')
    add_conversion_arguments(parser, size=256)
    args = parser.parse_args()
    from mmagic_cm.datasets.conversion import Source, check_counts, run_conversion
    from mmagic_cm.datasets.lsun import open_lmdb

    if (args.source is None) == (args.download is None):
        raise InputError('Give either a source, or --download bedroom or --download cat.')
    source = Source(args.source or fetch(args.download, args.root))
    if not Path(source.folder).is_dir():
        raise InputError(
            f'There is no folder {source.folder}: give that of an LMDB, or --download bedroom.'
        )
    name = Path(source.folder).resolve().name
    for category, (_, folder, count) in CATEGORIES.items():
        if name == folder or category == args.download:
            # LMDB knows its count; it need not be listed for that.
            found = open_lmdb(source.folder).stat()['entries'] if source.is_lmdb else None
            check_counts(source, count, name=f"LSUN's {category}", args=args, found=found)
    if args.out is not None:
        run_conversion(source, args)
    elif args.download is None:
        raise InputError('Say where to write to: --out FOLDER or --out NAME.lmdb.')


if __name__ == '__main__':
    run_cli(main)
