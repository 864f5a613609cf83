"""Pictures from the page's editor: small ones are shown large, and come back small.

Those of a camera are scaled down.
"""

import numpy as np
from PIL import Image

from ..errors import InputError

SHOWN_SIZE = 320  # pixels at least: nobody can paint into eight
MAX_SIZE = 1024  # and at most: each candidate is as large as its picture
PAINTED = 'what I painted'
MASKS = (PAINTED, 'lower half', 'right half', 'middle')


def shrink(picture: Image.Image) -> Image.Image:
    """A picture in colour, scaled down where it is too large."""
    small = picture.convert('RGB')
    small.thumbnail((MAX_SIZE, MAX_SIZE))
    return small


def enlarge(picture: Image.Image) -> Image.Image:
    """A picture large enough to be painted in: each pixel becomes a square."""
    times = max(1, -(-SHOWN_SIZE // max(picture.size)))
    size = picture.width * times, picture.height * times
    return picture.convert('RGB').resize(size, Image.Resampling.NEAREST)


def side_of_squares(picture: Image.Image) -> int:
    """By how much :func:`enlarge` has enlarged a picture: the side of its one-coloured squares."""
    pixels = np.asarray(picture.convert('RGB'))
    height, width = pixels.shape[:2]
    smaller = (k for k in range(max(height, width), 1, -1) if height % k == 0 and width % k == 0)
    for side in smaller:
        corners = pixels[::side, ::side]
        if np.array_equal(corners.repeat(side, axis=0).repeat(side, axis=1), pixels):
            return side
    return 1


def from_editor(value: dict | None, needs_mask: bool) -> tuple[np.ndarray, np.ndarray]:
    """The picture and what is painted over it.

    Args:
        value: Of a ``gr.ImageEditor``: 'background', 'layers' and 'composite', PIL images.
        needs_mask: Take the picture below the paint; otherwise the paint is part of it.

    Returns:
        uint8 (H, W, 3) and bool (H, W), which is True where there is paint; as small as the picture
        was before :func:`enlarge`, and as :func:`shrink` makes it.

    Raises:
        InputError: There is no picture.
    """
    if not value or value.get('background') is None:
        raise InputError('There is no picture yet: upload one, or pick one.')
    background = shrink(value['background'])
    painted = np.zeros((background.height, background.width), bool)
    for layer in value.get('layers') or ():
        alpha = layer.convert('RGBA').getchannel('A')
        painted |= np.asarray(alpha.resize(background.size, Image.Resampling.NEAREST)) > 0
    whole = value.get('composite')
    if not needs_mask and whole is not None and painted.any():
        background = whole.convert('RGB').resize(background.size)
    side = side_of_squares(background)
    picture = np.asarray(background)[::side, ::side]
    height, width = picture.shape[:2]
    # A pixel counts as painted where any part of its square is.
    painted = painted.reshape(height, side, width, side).any(axis=(1, 3))
    return np.ascontiguousarray(picture), painted


def make_mask(kind: str, painted: np.ndarray) -> np.ndarray:
    """A mask as :func:`~mmagic_cm.editing.edit_pictures` takes it: 255 where kept, 0 where filled.

    Args:
        kind: One of ``MASKS``.
        painted: bool (H, W).

    Raises:
        InputError: Nothing is painted.
    """
    filled = np.zeros_like(painted)
    height, width = filled.shape
    if kind == PAINTED:
        if not painted.any():
            raise InputError('Nothing is painted yet: paint over what is to be filled.')
        filled = painted
    elif kind == 'lower half':
        filled[height // 2 :] = True
    elif kind == 'right half':
        filled[:, width // 2 :] = True
    else:
        filled[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None] = True
    return np.where(filled, 0, 255).astype(np.uint8)
