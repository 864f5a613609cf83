"""Pictures of any size and kind, made to fit a network, and fitted back."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..errors import InputError
from ..io.images import to_unit_range

Picture = Image.Image | np.ndarray


def picture_to_tensor(picture: Picture, channels: int, name: str = 'picture') -> torch.Tensor:
    """A PIL image or uint8 (H, W), (H, W, 1) or (H, W, 3) -> float32 (channels, H, W) in [-1, 1].

    Raises:
        InputError: It is neither.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] > (3,):
            raise InputError(
                f'{name} must be uint8 (H, W), (H, W, 1) or (H, W, 3), not {picture.dtype} '
                f'{picture.shape}.'
            )
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    if not isinstance(picture, Image.Image):
        raise InputError(f'{name} must be a PIL image or a uint8 array, not {type(picture)}.')
    array = np.array(picture.convert('L' if channels == 1 else 'RGB')).reshape(
        picture.height, picture.width, channels
    )
    return to_unit_range(torch.from_numpy(array).permute(2, 0, 1))


def mask_to_tensor(mask: Picture, picture: torch.Tensor, name: str = 'mask') -> torch.Tensor:
    """A mask picture, white where kept and black where filled -> float32 0 and 1, (1, H, W).

    Args:
        mask: As of :func:`picture_to_tensor`; greys are cut in the middle.
        picture: (C, H, W), which it belongs to.
        name: What to call it in an error.

    Raises:
        InputError: It is of another size.
    """
    found = (picture_to_tensor(mask, 1, name) > 0).float()
    if found.shape[1:] != picture.shape[1:]:
        sizes = [' x '.join(map(str, t.shape[1:])) for t in (found, picture)]
        raise InputError(
            f'The {name} has {sizes[0]} pixels and its picture {sizes[1]} (height x width): give '
            'a mask of the size of the picture.'
        )
    return found


@dataclass(frozen=True)
class Fit:
    """Where a picture lies in the square that a network takes: scaled, at the top left.

    Attributes:
        height: Of the picture.
        width: Of the picture.
        size: Side of the square.
    """

    height: int
    width: int
    size: int

    @property
    def inner(self) -> tuple[int, int]:
        """(height, width) of the picture in the square, whose longer side it fills."""
        scale = self.size / max(self.height, self.width)
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    def into(self, picture: torch.Tensor) -> torch.Tensor:
        """(C, height, width) -> (C, size, size); the rest of the square repeats the edge."""
        height, width = self.inner
        below, right = self.size - height, self.size - width
        return F.pad(_resize(picture, self.inner), (0, right, 0, below), mode='replicate')

    def mask_into(self, mask: torch.Tensor) -> torch.Tensor:
        """(1, height, width) -> (1, size, size); the rest of the square is to be filled.

        A pixel is kept where none of what is to be filled has a share in it.
        """
        height, width = self.inner
        kept = (_resize(mask, self.inner) > 0.999).float()
        return F.pad(kept, (0, self.size - width, 0, self.size - height))

    def back(self, square: torch.Tensor) -> torch.Tensor:
        """(C, size, size) -> (C, height, width)."""
        height, width = self.inner
        return _resize(square[:, :height, :width], (self.height, self.width))


def _resize(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The same linear filter for pictures and masks, so that both agree on what is whose."""
    if tuple(picture.shape[1:]) == size:
        return picture
    return F.interpolate(picture[None], size, mode='bilinear', antialias=True)[0]
