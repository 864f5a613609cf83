"""Resize ImageNet once: ``python tools/dataset_converters/imagenet.py SOURCE --out data/imagenet``.

ImageNet is for those who have an account at image-net.org: fetch ILSVRC2012_img_train.tar there and
unpack it, and each of the 1,000 archives in it into a folder of its own name.
"""

import argparse
from pathlib import Path

from mmagic_cm.cli import Parser, add_conversion_arguments
from mmagic_cm.errors import InputError, run_cli

# Images and classes; the validation set is one folder without classes, or 1,000 of them.
COUNTS = dict(train=(1_281_167, 1000), val=(50_000, None))


def main() -> None:
    """Convert."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='folder with a sub-folder of JPEGs for each class')
    parser.add_argument('--split', choices=COUNTS, default='train', help='whose counts to expect')
    add_conversion_arguments(parser, size=64)
    args = parser.parse_args()
    from mmagic_cm.datasets.conversion import Source, check_counts, run_conversion

    if args.out is None:
        parser.error('--out is required')
    if not Path(args.source).is_dir():
        raise InputError(
            f'There is no folder {args.source}: ImageNet needs an account at image-net.org, from '
            f'where to fetch and unpack it.'
        )
    source = Source(args.source)
    check_counts(source, *COUNTS[args.split], name=f"ImageNet's {args.split} set", args=args)
    run_conversion(source, args)


if __name__ == '__main__':
    run_cli(main)
