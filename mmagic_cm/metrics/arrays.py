"""Features as tensors: checked once, and on the device that computes."""

import numpy as np
import torch

from ..errors import InputError

BLOCK = 4096  # rows that are turned into float64 at once


def as_tensor(features: np.ndarray | torch.Tensor, what: str = 'features') -> torch.Tensor:
    """A set of features as a tensor, where it is and of the type that it has.

    Args:
        features: (N, D), finite numbers.
        what: What they are called in the message.

    Raises:
        InputError: They have another shape, or are not finite: names the first image.
    """
    if isinstance(features, np.ndarray):
        # A copy of what torch cannot take: read-only memory, steps backwards.
        features = torch.from_numpy(np.require(features, requirements=['C', 'W']))
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f'The {what} must be (N, D), not {tuple(features.shape)}.')
    for begin in range(0, len(features), BLOCK):
        bad = ~features[begin : begin + BLOCK].isfinite().all(1)
        if bad.any():
            number = begin + int(bad.nonzero()[0])
            raise InputError(
                f'The {what} of image {number} are not finite: look at that image, and at the '
                f'weights of the feature extractor.'
            )
    return features
