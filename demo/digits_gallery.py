"""What one digits model can do untrained: four small pictures, in seconds.

python demo/digits_gallery.py CONFIG CKPT DIR
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mmagic_cm.cli import Parser
from mmagic_cm.errors import run_cli

if TYPE_CHECKING:
    from PIL import Image

    from mmagic_cm.editing import Edited
    from mmagic_cm.models import ConsistencyModel

NOISE_LEVEL = 0.5
# Where digits of 8 x 8 pixels take shape; with repeats, so that old and new strokes meet.
LEVELS = (2.0, 1.2, 0.7, 0.4, 0.2)
SETTINGS = dict(sigmas=LEVELS, num_resamples=4, num_candidates=3)
CELL = 40


def draw_gallery(model: 'ConsistencyModel', folder: str | Path, num_digits: int = 10) -> list[Path]:
    """Edit real digits that no training has seen.

    Args:
        model: Of the digits, conditional or not.
        folder: Where ``editing_*.png`` go. In each a line is a digit: the original, what the model
            is shown of it, and what it makes of that; a line of ``editing_walk.png`` is a walk.
        num_digits: Lines of a picture, one for each class, at most 10.

    Returns:
        The files: inpainting, super-resolution, denoising, walk.
    """
    import numpy as np
    import torch

    from mmagic_cm.datasets.digits import load_split
    from mmagic_cm.editing import Edited, edit_pictures
    from mmagic_cm.io.images import save_image, to_uint8, to_unit_range

    digits, labels = load_split('test')
    one_of_each = np.unique(labels, return_index=True)[1][:num_digits]
    digits, labels = digits[one_of_each], labels[one_of_each]
    named = dict(labels=labels) if model.num_classes is not None else {}
    lower_half = np.full((8, 8), 255, np.uint8)
    lower_half[4:] = 0
    tasks = {
        'inpainting': dict(masks=[lower_half], **SETTINGS),
        'super-resolution': dict(factor=2, **SETTINGS),
    }
    grids = {
        name: _grid(edit_pictures(model, name, list(digits), **named, **settings))
        for name, settings in tasks.items()
    }

    noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(0))
    noisy = to_uint8(to_unit_range(torch.from_numpy(digits)) + NOISE_LEVEL * noise).numpy()
    denoised = edit_pictures(model, 'denoising', list(noisy), **named, sigma=NOISE_LEVEL)
    rows = [
        Edited(dict(input=digit, noisy=result.shown['input']), result.candidates)
        for digit, result in zip(digits, denoised, strict=True)
    ]
    grids['denoising'] = _grid(rows)

    walks = []
    for i in range(0, num_digits - 1, 2):
        ends = dict(labels=labels[i : i + 2]) if named else {}
        walks += edit_pictures(model, 'interpolation', list(digits[i : i + 2]), **ends)
    grids['walk'] = _grid(walks, middle=True)
    return [save_image(grid, Path(folder) / f'editing_{name}.png') for name, grid in grids.items()]


def _grid(rows: list['Edited'], middle: bool = False) -> 'Image.Image':
    """A line for each; ``middle`` puts the candidates between the pictures they come from."""
    import numpy as np

    from mmagic_cm.io.images import make_grid

    lines = [
        [row.shown['first'], *row.candidates, row.shown['last']]
        if middle
        else [*row.shown.values(), *row.candidates]
        for row in rows
    ]
    return make_grid(np.concatenate(lines), len(lines[0]), cell_size=CELL)


def main() -> None:
    """Draw the gallery of a trained model."""
    parser = Parser(description='Edit digits with a trained model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='file of weights')
    parser.add_argument('folder', type=Path, help='where the pictures go')
    args = parser.parse_args()
    from mmagic_cm.apis import init_model

    print(*draw_gallery(init_model(args.config, args.checkpoint), args.folder), sep='\n')


if __name__ == '__main__':
    run_cli(main)
