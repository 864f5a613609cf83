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
    bad = first_bad_row(features)
    if bad is not None:
        raise InputError(f'The {what} of image {bad} are not finite: look at that image.')
    return features


def first_bad_row(features: torch.Tensor) -> int | None:
    """Index of the first row of (N, D) that holds NaN or an infinity; None: all are finite."""
    for begin in range(0, len(features), BLOCK):
        bad = ~features[begin : begin + BLOCK].isfinite().all(1)
        if bad.any():
            return begin + int(bad.nonzero()[0])
    return None
