"""Judge a file or folder of images: ``python -m mmagic_cm.evaluation REF SAMPLES``."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from ..apis import load_config
from ..cli import Parser, parse_count
from ..errors import InputError, run_cli
from ..io.devices import choose_device
from ..metrics import InceptionFeatures, ModuleFeatures, PixelFeatures
from ..metrics.features import FeatureExtractor, extract
from ..metrics.scores import KNOWN_METRICS, available_metrics, check_metrics, compute_scores
from .reference import read_reference
from .report import format_about, format_table, write_report
from .sources import ImageSource, check_source, open_images


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog='python -m mmagic_cm.evaluation',
        description='Compare generated images with real ones',
    )
    parser.add_argument(
        'reference',
        metavar='REF',
        help="the real ones: an .npz of statistics (ADM's, EDM's, ours) or images, a folder of "
        'pictures, an LMDB, or a config file (its training data)',
    )
    parser.add_argument(
        'samples', metavar='SAMPLES', help='the generated ones: an .npz, a folder or an LMDB'
    )
    parser.add_argument(
        '--metrics', help=f'of {",".join(KNOWN_METRICS)}; default: all that REF allows'
    )
    parser.add_argument(
        '--extractor',
        default='inception',
        metavar='inception|pixels|FILE.pt',
        help='features to compare: the Inception of 2015 (default), pixels, a TorchScript file',
    )
    parser.add_argument(
        '--inception', default='cache', metavar='FILE', help='its weights; default: the cache'
    )
    parser.add_argument(
        '--input-size', type=parse_count, help='side that the TorchScript file takes, such as 224'
    )
    parser.add_argument(
        '--crop',
        type=_crop,
        default='auto',
        metavar='SIZE|none|auto',
        help="ADM's central crop of the pictures in folders and LMDBs, to this side; auto "
        "(default): of REF's, to the size of the samples",
    )
    parser.add_argument('--num-samples', type=parse_count, help='only the first so many of SAMPLES')
    parser.add_argument('--batch-size', type=parse_count, default=64, help='images at a time')
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    return parser.parse_args()


def _crop(text: str) -> int | str | None:
    if text in ('auto', 'none'):
        return None if text == 'none' else text
    return parse_count(text)


def choose_extractor(
    name: str, inception: str = 'cache', input_size: int | None = None
) -> FeatureExtractor:
    """The extractor that a user names: 'inception', 'pixels' or a TorchScript file.

    Raises:
        InputError: It is none of these.
    """
    if name == 'inception':
        return InceptionFeatures(weights=inception)
    if name == 'pixels':
        return PixelFeatures()
    if not Path(name).is_file():
        raise InputError(
            f"--extractor {name}: there is no such file; it is 'inception', 'pixels' or a "
            f'TorchScript file.'
        )
    return ModuleFeatures(name, input_size=input_size)


def first_images(source: ImageSource, count: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Batches of the first ``count`` images."""
    for batch in source.batches(batch_size):
        yield batch[:count]
        count -= len(batch)
        if count <= 0:
            return


def main() -> None:
    """Judge, print, and write."""
    args = parse_args()
    extractor = choose_extractor(args.extractor, args.inception, args.input_size)
    extractor.to(choose_device(args.device))
    metrics = None if args.metrics is None else check_metrics(args.metrics.split(','))
    real: str | dict = args.reference
    if real.endswith('.py'):
        loader = load_config(real).get('train_dataloader')
        if loader is None:
            raise InputError(f'{real} has no train_dataloader, for images of the reference.')
        real = dict(dataset=dict(loader.dataset))
    check_source(real)
    extractor.identity  # noqa: B018  reads the weights
    samples = open_images(args.samples, args.crop if type(args.crop) is int else None)
    crop = args.crop
    if crop == 'auto':
        height, width = samples.size
        crop = height if height == width else None
    reference = read_reference(real, extractor, metrics, crop, args.batch_size, progress=True)
    reference.check_size(samples.size)
    metrics = metrics or available_metrics(extractor.names, reference)
    count = min(args.num_samples or len(samples), len(samples))
    if args.num_samples is not None and args.num_samples > len(samples):
        raise InputError(f'{args.samples} holds {len(samples):,} images, not {args.num_samples:,}.')
    batches = first_images(samples, count, args.batch_size)
    features = extract(batches, extractor, progress=True, total=count)
    figures = compute_scores(features, reference, metrics, extractor.device)
    about = {
        'samples': samples.name,
        'images': count,
        'crop of the samples': samples.crop,
        'extractor': extractor.identity,
        **reference.describe(),
    }
    print(f'{format_table(figures)}\n\n{format_about(about)}')
    if args.out:
        write_report(args.out, figures, about)


if __name__ == '__main__':
    run_cli(main)
