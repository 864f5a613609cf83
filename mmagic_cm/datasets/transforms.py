"""Transforms of one image, from a results dict to what a batch is collated from."""

import numpy as np
import torch

from ..registry import TRANSFORMS


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
    """The end of a pipeline: ``inputs`` uint8 (C, H, W), and ``labels`` where there are any."""

    def __call__(self, results: dict) -> dict:
        """Pack ``img`` and ``gt_label``."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        packed = dict(inputs=torch.from_numpy(image))
        if 'gt_label' in results:
            packed['labels'] = results['gt_label']
        return packed
