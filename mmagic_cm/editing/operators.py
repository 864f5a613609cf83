"""Linear measurements: what of a picture an edit keeps.

An operator has two methods. ``measure(x)`` is what is known of a picture; ``replace(x, y)`` is the
picture next to ``x`` that measures ``y``. In the paper's words (algorithm 4), with an orthogonal
transformation A and the mask Omega of what is missing, ``replace`` is
A^T[(A y) (1 - Omega) + (A x) Omega].
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch.nn import functional as F

from ..errors import InputError

LUMINANCE_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green, blue, as the paper's code has them


class Operator(ABC):
    """A linear measurement of pictures (N, C, H, W).

    A new one needs ``measure`` and ``replace``; the rest has defaults.

    Attributes:
        pointwise: Each pixel is measured by itself, so that the operator means the same at any
            size of the picture.
    """

    pointwise: ClassVar[bool] = False

    @abstractmethod
    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """What is known of ``x`` (N, C, H, W), in any shape (N, ...).

        Raises:
            InputError: The picture does not suit the operator.
        """

    @abstractmethod
    def replace(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The picture nearest to ``x`` (N, C, H, W) whose measurement is ``y``."""

    def degrade(self, x: torch.Tensor) -> torch.Tensor:
        """The measured part of ``x`` and nothing else (algorithm 4, line 2); (N, C, H, W)."""
        return self.replace(torch.zeros_like(x), self.measure(x))

    def show(self, x: torch.Tensor) -> torch.Tensor:
        """A picture of the measurement for human eyes, in [-1, 1] where ``x`` is."""
        return self.degrade(x)

    def couple(self, factors: torch.Tensor) -> torch.Tensor:
        """Make factors (N, C, H, W) equal where values must shrink together: their least.

        The difference of two pictures that measure the same, times these factors, must measure
        zero. By default one factor a picture.
        """
        return factors.amin(dim=(1, 2, 3), keepdim=True).expand_as(factors)


def into_gamut(operator: Operator, x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Bring a picture into [-1, 1] and leave its measurement as it is.

    Clipping would change the luminance of a saturated colour, or the mean of a patch, by tens of
    grey levels. Here chroma shrinks towards the luminance, detail towards the patch's mean: no
    more than it must, pixel by pixel or patch by patch.

    Args:
        operator: Of the measurement.
        x: (N, C, H, W), measures the same as ``image``.
        image: (N, C, H, W) in [-1, 1].
    """
    base = operator.show(image)
    detail = x - base
    room = torch.where(detail > 0, 1 - base, 1 + base).clamp(min=0)
    # Exactly 1 where there is room enough, also where there is neither room nor detail.
    fits = detail.abs() <= room
    factors = torch.where(fits, 1.0, room / detail.abs().clamp(min=1e-12))
    factors = operator.couple(factors)
    return torch.where(factors == 1, x, base + factors * detail)


class Mask(Operator):
    """Known pixels; the others are to be filled (inpainting).

    Args:
        mask: 1 or True where a pixel is kept, 0 or False where it is filled: (H, W), (N, H, W) or
            (N, 1, H, W), with N = 1 for all pictures.

    Raises:
        InputError: It has another shape or other values, or keeps nothing.
    """

    pointwise = True

    def __init__(self, mask: torch.Tensor) -> None:
        mask = torch.as_tensor(mask)
        shape = tuple(mask.shape)
        if mask.ndim == 3:
            mask = mask[:, None]
        elif mask.ndim == 2:
            mask = mask[None, None]
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise InputError(
                f'A mask is (H, W), (N, H, W) or (N, 1, H, W), and this one is {shape}.'
            )
        if not ((mask == 0) | (mask == 1)).all():
            raise InputError(
                'A mask holds 1 where a pixel is kept and 0 where it is filled, and nothing else: '
                'cut a grey one in two, such as by mask > 0.5.'
            )
        if not mask.flatten(1).any(1).all():
            raise InputError(
                'The mask is zero everywhere and keeps no pixel: mark what is known with 1 '
                '(white), or draw a new picture instead of editing one.'
            )
        self.mask = mask.bool()

    def _mask_of(self, x: torch.Tensor) -> torch.Tensor:
        count, _, *size = self.mask.shape
        if size != list(x.shape[2:]) or count not in (1, len(x)):
            raise InputError(
                f'The mask is of {count} x {size[0]} x {size[1]} (number x height x width), the '
                f'pictures are of {len(x)} x {x.shape[2]} x {x.shape[3]}: give one of their size.'
            )
        return self.mask.to(x.device)

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """The known pixels, 0 (mid-grey) elsewhere; (N, C, H, W)."""
        return torch.where(self._mask_of(x), x, 0)

    def replace(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` with the known pixels of ``y``, bit for bit."""
        return torch.where(self._mask_of(x), y, x)

    def couple(self, factors: torch.Tensor) -> torch.Tensor:
        """Each value by itself."""
        return factors


class Luminance(Operator):
    """The grey version of a colour picture (colorization); weights 0.2989, 0.587, 0.114."""

    pointwise = True

    @staticmethod
    def _weights(x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 3:
            raise InputError(
                f'Colours have three channels, and these pictures have {x.shape[1]}: colorization '
                'needs a model of colour pictures.'
            )
        weights = torch.tensor(LUMINANCE_WEIGHTS, dtype=x.dtype, device=x.device)
        # They add up to 0.9999: made 1, so that the luminance of a grey picture is itself.
        return (weights / weights.sum()).reshape(1, 3, 1, 1)

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) RGB -> (N, 1, H, W), in the same range."""
        return (x * self._weights(x)).sum(1, keepdim=True)

    def replace(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` moved along the direction of the weights to the luminance ``y`` (N, 1, H, W)."""
        weights = self._weights(x)
        return x + (y - self.measure(x)) * weights / weights.square().sum()

    def show(self, x: torch.Tensor) -> torch.Tensor:
        """The grey picture; the measured part itself, ``degrade``, is greenish."""
        return self.measure(x).expand_as(x)

    def couple(self, factors: torch.Tensor) -> torch.Tensor:
        """The channels of a pixel."""
        return factors.amin(dim=1, keepdim=True).expand_as(factors)


class PatchMean(Operator):
    """Means of square patches, channel by channel (super-resolution).

    Args:
        factor: Side of a patch in pixels; divides height and width.
    """

    def __init__(self, factor: int) -> None:
        if factor < 1:
            raise InputError(f'factor must be at least 1, not {factor}.')
        self.factor = factor

    def enlarge(self, y: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, C, factor h, factor w): each pixel becomes a patch."""
        return y.repeat_interleave(self.factor, dim=2).repeat_interleave(self.factor, dim=3)

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H / factor, W / factor)."""
        height, width = x.shape[2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f'The factor {self.factor} does not divide pictures of {height} x {width} pixels '
                '(height x width): take one that does.'
            )
        return F.avg_pool2d(x, self.factor)

    def replace(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` with each patch shifted to its mean in ``y``."""
        return x + self.enlarge(y - self.measure(x))

    def couple(self, factors: torch.Tensor) -> torch.Tensor:
        """The pixels of a patch."""
        return self.enlarge(-F.max_pool2d(-factors, self.factor))


class Guide(Operator):
    """A picture to start from, of which nothing is kept (stroke-guided editing, denoising)."""

    pointwise = True

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """The picture itself."""
        return x

    def replace(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` as it is."""
        return x

    def degrade(self, x: torch.Tensor) -> torch.Tensor:
        """The picture itself."""
        return x

    def couple(self, factors: torch.Tensor) -> torch.Tensor:
        """Each value by itself."""
        return factors
