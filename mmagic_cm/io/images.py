"""Pictures: uint8 <-> [-1, 1], grids, files. The one place where these are decided."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import InputError
from .files import existing_file, in_place_of, writing

# What is read. Pillow knows more, of which some run programs: PostScript, by any name.
FORMATS = ('PNG', 'JPEG', 'GIF', 'WEBP', 'BMP', 'TIFF')
# Of a picture that is read. A file of a few bytes may promise billions.
MAX_PIXELS = 8192**2
# What Pillow raises at broken files, each format in its own way.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class BadImageError(InputError):
    """A picture that cannot be used; the message names it and says why."""

    def __init__(self, message: str) -> None:
        # PyTorch's loader makes the error of a worker anew, from the worker's whole traceback.
        super().__init__(message.strip().split('\n')[-1].split(f'{type(self).__name__}: ')[-1])


@contextmanager
def open_image(source: str | Path | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """Open a picture, of which the header is read; whatever is wrong with it inside has its name.

    Args:
        source: A file, or the bytes of one.
        name: What to call it in an error; default: the path.

    Raises:
        BadImageError: It is no picture of :data:`FORMATS`, has more than :data:`MAX_PIXELS`, or
            cannot be decoded.
    """
    in_memory = isinstance(source, bytes)
    try:
        if not in_memory:
            existing_file(source)
        with Image.open(io.BytesIO(source) if in_memory else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f'{image.width:,} x {image.height:,} pixels are more than {MAX_PIXELS:,}'
                )
            yield image
    except DECODING_ERRORS as error:
        name = name or ('A picture' if in_memory else source)
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f'it is of no known format ({", ".join(FORMATS)})'
        else:
            reason = ' '.join(str(error).rstrip('.').split()) or type(error).__name__
        raise BadImageError(f'{name} cannot be read as a picture: {reason}.') from error


def decode_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Read a picture in whatever mode it is stored, as RGB, upright as its EXIF says.

    Sixteen bits become eight.

    Args:
        source: As of :func:`open_image`.
        name: As of :func:`open_image`.

    Raises:
        BadImageError: It cannot be decoded, or its numbers do not say what is white.
    """
    with open_image(source, name) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in 'IF':
            # Pillow would clip what is above 255.
            pixels = np.asarray(image)
            if image.mode == 'F' or pixels.min() < 0 or pixels.max() > 65535:
                raise ValueError(
                    'its pixels are of 32 bits, and nothing says what is white: store it in 8 or 16'
                )
            image = Image.fromarray((pixels >> 8).astype(np.uint8))
        return image.convert('RGB')


def to_unit_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 [-1, 1], any shape."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Float [-1, 1] -> uint8 0..255, any shape; rounds to the nearest level and clamps.

    The exact inverse of :func:`to_unit_range`. (The paper's code truncates instead, which loses
    a level on a round trip.)

    Raises:
        InputError: Values that are not finite, which would be black.
    """
    if not images.isfinite().all():
        raise InputError(
            'There are pictures that are not finite (NaN): look at the weights, which may come '
            'from a run that diverged, and at the settings of the sampler.'
        )
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def make_grid(
    images: np.ndarray,
    num_columns: int,
    *,
    row_labels: Sequence[str] = (),
    cell_size: int | None = None,
    padding: int = 2,
) -> Image.Image:
    """Lay images out in rows, enlarged without smoothing.

    Args:
        images: uint8 (N, H, W, C), C = 1 or 3.
        num_columns: Images a row.
        row_labels: A text to the left of each row.
        cell_size: Width of an enlarged image in pixels. Defaults to the least multiple of W that
            is at least 32.
        padding: Pixels between images.
    """
    count, height, width, _ = images.shape
    scale = max(1, round(cell_size / width)) if cell_size else max(1, -(-32 // width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    step_y, step_x = height * scale + padding, width * scale + padding
    num_rows = -(-count // num_columns)
    font = ImageFont.load_default(size=max(12, height * scale // 2))
    margin = max((int(font.getlength(text)) + 12 for text in row_labels), default=0)
    size = (margin + num_columns * step_x + padding, num_rows * step_y + padding)
    grid = Image.new('RGB', size, (255, 255, 255) if margin else (0, 0, 0))
    for i, image in enumerate(images):
        row, column = divmod(i, num_columns)
        corner = (margin + padding + column * step_x, padding + row * step_y)
        grid.paste(_to_pil(image), corner)
    draw = ImageDraw.Draw(grid)
    for row, text in enumerate(row_labels):
        draw.text((6, padding + (row + 0.5) * step_y), text, fill=(0, 0, 0), font=font, anchor='lm')
    return grid


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def is_picture(path: str | Path) -> bool:
    """Whether the name ends as that of a picture which can be written, such as .png or .jpg."""
    Image.init()  # fills the lists of formats
    return Image.registered_extensions().get(Path(path).suffix.lower()) in Image.SAVE


def save_image(image: Image.Image | np.ndarray, path: str | Path) -> Path:
    """Write one picture (a PIL image, or uint8 (H, W, C)), whole or not at all."""
    path = Path(path)
    if not is_picture(path):
        raise InputError(f'{path} does not name a picture: end it with .png or .jpg.')
    kind = Image.registered_extensions()[path.suffix.lower()]
    with in_place_of(path, shared=True) as fresh:
        (image if isinstance(image, Image.Image) else _to_pil(image)).save(fresh, kind)
    return path


def save_images(images: np.ndarray, folder: str | Path) -> None:
    """Write uint8 (N, H, W, C) as ``000000.png``, ``000001.png``, ... into a folder."""
    for i, image in enumerate(images):
        save_image(image, Path(folder) / f'{i:06d}.png')


def save_npz(images: np.ndarray, labels: np.ndarray | None, path: str | Path) -> None:
    """Write samples as the field's evaluators read them: ``arr_0`` uint8 NHWC, ``arr_1`` labels."""
    arrays = [images] if labels is None else [images, labels]
    with writing(Path(path)):
        np.savez(path, *arrays)
