"""Transforms of one image, from a results dict to what a batch is collated from, and that."""

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate

from ..errors import InputError
from ..io.images import BadImageError, decode_image
from ..registry import FUNCTIONS, TRANSFORMS


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The central square of a picture, resized as ADM (arXiv:2105.05233) does.

    While the shorter side is at least twice the size, the picture is halved (box filter); then
    the shorter side becomes ``size`` (bicubic), and the middle is cut out.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    if min(image.size) != size:
        scale = size / min(image.size)
        width, height = round(image.width * scale), round(image.height * scale)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


@TRANSFORMS.register_module()
class LoadImage:
    """Decode ``results['img_path']``, or ``img_bytes``, to ``img`` uint8 (H, W, C).

    Args:
        color: 'rgb' (C = 3) or 'gray' (C = 1).

    Raises:
        BadImageError: The picture cannot be decoded.
    """

    def __init__(self, color: str = 'rgb') -> None:
        if color not in {'rgb', 'gray'}:
            raise InputError(f"LoadImage: color must be 'rgb' or 'gray', not {color!r}.")
        self.color = color

    def __call__(self, results: dict) -> dict:
        """Load ``img``; the bytes are dropped."""
        in_memory = 'img_bytes' in results
        source = results.pop('img_bytes') if in_memory else results['img_path']
        image = decode_image(source, _name(results))
        results['img'] = _to_array(image if self.color == 'rgb' else image.convert('L'))
        return results


@TRANSFORMS.register_module()
class CenterCrop:
    """Cut out the central square and resize it, as :func:`center_crop` does.

    Args:
        size: Side of the result in pixels.
        enlarge: Take images whose shorter side is smaller than that, too (the paper's code does).

    Raises:
        BadImageError: An image is too small.
    """

    def __init__(self, size: int, enlarge: bool = False) -> None:
        self.size = size
        self.enlarge = enlarge

    def __call__(self, results: dict) -> dict:
        """Replace ``img`` uint8 (H, W, C) by (size, size, C)."""
        height, width = results['img'].shape[:2]
        if min(height, width) < self.size and not self.enlarge:
            raise BadImageError(
                f'{_name(results)} is too small: {width} x {height} pixels, and the crop takes '
                f'{self.size} x {self.size} (CenterCrop(enlarge=True) would enlarge it).'
            )
        if (height, width) != (self.size, self.size):
            image = results['img']
            image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            results['img'] = _to_array(center_crop(image, self.size))
        return results


def _name(results: dict) -> str:
    name = results.get('img_name') or results.get('img_path')
    return str(name or f'Image {results.get("sample_idx")}')


def _to_array(image: Image.Image) -> np.ndarray:
    """A gray or RGB picture as uint8 (H, W, C)."""
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror an image left to right.

    Args:
        prob: Probability, drawn from ``results['rng']``.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """``results['img']`` uint8 (H, W, C)."""
        if results['rng'].random() < self.prob:
            results['img'] = results['img'][:, ::-1]
        return results


@TRANSFORMS.register_module()
class PackImage:
    """The end of a pipeline: ``inputs`` uint8 (C, H, W), ``labels`` where there are any.

    And ``indices``, the number of the image in its data set, where that is known.
    """

    def __call__(self, results: dict) -> dict:
        """Pack ``img``, ``gt_label`` and ``sample_idx``."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        packed = dict(inputs=torch.from_numpy(image))
        if 'sample_idx' in results:
            packed['indices'] = results['sample_idx']
        if 'gt_label' in results:
            packed['labels'] = results['gt_label']
        return packed


@FUNCTIONS.register_module()
def collate(samples: list[dict], _scope_: str | None = None) -> dict:
    """A batch, by torch's ``default_collate``.

    Args:
        samples: What :class:`PackImage` and ``SampleNumbers`` give.
        _scope_: MMEngine writes it into every dict with a type that a config inherits from
            ``mmagic_cm::``, and its Runner calls this function with the whole dict.
    """
    return default_collate(samples)
