"""What a network must offer."""

import torch
from torch import nn

from ..errors import InputError


class Network(nn.Module):
    """The network inside a denoiser: ``F(x, c_noise, labels=None, **conditions)``.

    A network of your own need not inherit from it. It must be a module with ``num_classes``,
    ``in_channels`` and ``image_size``; the rest has the values of this class where it is absent.

    * x: (N, in_channels, image_size, image_size), scaled to about unit variance, in float32.
    * c_noise: (N,) float32, the noise level as the network wants to be told it.
    * labels: int64 (N,), given exactly where ``num_classes`` is not None.
    * conditions: what the network is told beside, each (N, ...) and by its name: ``next_sigma`` of
      a network of two levels, ``guidance`` of a student that is told its teacher's.
    * Returns (N, in_channels, image_size, image_size), of any floating-point type.

    It may own no buffers that its constructor computes from data: it is built on the meta device
    first, and gets its weights from a file.

    Attributes:
        num_classes: Of a conditional network; None: it takes no labels.
        in_channels: Channels of an image.
        image_size: Side of the (square) images in pixels.
        null_class: Whether label -1, "no class", is known; guidance needs it.
        c_noise: The convention of ``c_noise``: 'adm' (250 ln sigma), 'edm' (ln sigma / 4) or
            'trigflow' (arctan(sigma / sigma_data)).
    """

    num_classes: int | None
    in_channels: int
    image_size: int
    null_class: bool = False
    c_noise: str = 'adm'

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights in which it computes."""
        return next(self.parameters()).dtype

    def cast(self, dtype: torch.dtype) -> 'Network':
        """Keep the weights in half precision, for inference: half the memory, and no casts."""
        return self.to(dtype)


def check_network(network: nn.Module) -> None:
    """Refuse a network that lacks what a model must know of it."""
    missing = [
        name for name in ('num_classes', 'in_channels', 'image_size') if not hasattr(network, name)
    ]
    if missing:
        raise InputError(
            f'{type(network).__name__} has no {" and no ".join(missing)}: see '
            f'mmagic_cm.networks.Network for what a network must offer.'
        )
