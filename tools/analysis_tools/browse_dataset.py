"""Show what a network will see: ``python tools/analysis_tools/browse_dataset.py CONFIG``."""

import argparse
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmagic_cm.cli import Parser, add_config_options, parse_count
from mmagic_cm.errors import InputError, run_cli

if TYPE_CHECKING:
    from mmagic_cm.datasets import ImageDataset

# Narrower pictures are enlarged to about this width, which leaves room for a name.
MIN_WIDTH = 64
FONT_SIZE = 11
CAPTION_HEIGHT = 15


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Draw a grid of what training begins with')
    parser.add_argument('config', help='config file of a training')
    parser.add_argument('--out', help='a picture; default work_dirs/NAME_OF_CONFIG/data.png')
    parser.add_argument('--num', type=parse_count, default=64, help='how many images; default 64')
    add_config_options(parser, 'data_root=FOLDER')
    return parser.parse_args()


def first_draws(cfg, dataset: 'ImageDataset', count: int) -> list[dict]:
    """What a run with the seed of the config sees first, on one device."""
    from mmagic_cm.registry import DATA_SAMPLERS

    seed = cfg.get('randomness', {}).get('seed') or 0
    settings = dict(cfg.train_dataloader.sampler, dataset=dataset, seed=seed)
    sampler = DATA_SAMPLERS.build(settings)
    return [dataset[draw] for draw in itertools.islice(sampler, count)]


def captioned(image: np.ndarray, text: str | None) -> np.ndarray:
    """An image uint8 (H, W, C), enlarged if it is small, over a line of text: (H', W', 3)."""
    scale = max(1, -(-MIN_WIDTH // image.shape[1]))
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    if text is None:
        return image
    height, width = image.shape[:2]
    cell = Image.new('RGB', (width, height + CAPTION_HEIGHT), (255, 255, 255))
    cell.paste(Image.fromarray(np.ascontiguousarray(image)), (0, 0))
    font = ImageFont.load_default(size=FONT_SIZE)
    shown = text
    while len(shown) > 1 and font.getlength(shown) > width:
        shown = f'{shown.rstrip("…")[:-1]}…'
    middle = width / 2, height + CAPTION_HEIGHT / 2
    ImageDraw.Draw(cell).text(middle, shown, fill=(0, 0, 0), font=font, anchor='mm')
    return np.asarray(cell)


def main() -> None:
    """Print what there is, and draw the grid."""
    args = parse_args()
    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets import merge_options
    from mmagic_cm.io.images import make_grid, save_image
    from mmagic_cm.registry import DATASETS

    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    if 'train_dataloader' not in cfg:
        raise InputError(f'{args.config} is for sampling only: it has no train_dataloader.')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    print(dataset.describe())
    classes = dataset.metainfo.get('classes')
    cells = []
    for item in first_draws(cfg, dataset, args.num):
        text = None
        if 'labels' in item:
            text = classes[item['labels']] if classes else str(item['labels'])
        cells.append(captioned(item['inputs'].numpy().transpose(1, 2, 0), text))
    cells = np.stack(cells)
    grid = make_grid(cells, math.ceil(math.sqrt(args.num)), cell_size=cells.shape[2])
    out = args.out or Path('work_dirs', Path(cfg.filename or args.config).stem, 'data.png')
    print(f'{len(cells)} images as the network sees them are in {save_image(grid, out)}')


if __name__ == '__main__':
    run_cli(main)
