"""What all image data sets share."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from ..registry import TRANSFORMS, resolve


class ImageDataset(BaseDataset):
    """MMEngine's dataset, whose transforms draw from a generator of their own.

    ``dataset[i]`` is image i; ``dataset[i, key]``, which :class:`ResumableSampler` asks for, is
    image i with the transforms' random draws seeded by ``key``. Transforms find the generator, a
    :class:`random.Random`, as ``results['rng']``.

    Subclasses write ``load_data_list``: a list of dicts with ``img`` (uint8 (H, W, C)) or what a
    transform loads it from, and ``gt_label`` where there are classes.

    Args:
        pipeline: Transforms: configs, whose bare names are ours, or callables.
        **settings: Of MMEngine's ``BaseDataset``.
    """

    def __init__(self, pipeline: Sequence[dict | Callable] = (), **settings) -> None:
        pipeline = [resolve(TRANSFORMS, transform) for transform in pipeline]
        super().__init__(pipeline=pipeline, **settings)

    def prepare_data(self, draw: int | tuple[int, Any]) -> dict:
        """One image through the pipeline."""
        index, key = draw if isinstance(draw, tuple) else (draw, draw)
        results = self.get_data_info(int(index))
        # Python's generator: numpy's takes five times as long to seed, once an image.
        results['rng'] = random.Random(repr(key))
        return self.pipeline(results)
