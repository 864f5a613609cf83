"""What all image data sets share."""

from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset


class ImageDataset(BaseDataset):
    """MMEngine's dataset, whose transforms draw from a generator of their own.

    ``dataset[i]`` is image i; ``dataset[i, key]``, which :class:`ResumableSampler` asks for, is
    image i with the transforms' random draws seeded by ``key``. Transforms find the generator as
    ``results['rng']``.

    Subclasses write ``load_data_list``: a list of dicts with ``img`` (uint8 (H, W, C)) or what a
    transform loads it from, and ``gt_label`` where there are classes.
    """

    def prepare_data(self, draw: int | tuple[int, Any]) -> dict:
        """One image through the pipeline."""
        index, key = draw if isinstance(draw, tuple) else (draw, draw)
        results = self.get_data_info(int(index))
        results['rng'] = np.random.default_rng(key)
        return self.pipeline(results)
