"""An endless sampler that can start anywhere without reading what came before."""

from collections.abc import Iterator

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from ..registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Shuffled epochs, one after another, split over the processes.

    Which image, and which random key for its transforms, belong to draw k of the whole run
    depends on (seed, k) alone. Process r of w takes the draws k = r, r + w, r + 2 w, ...

    Args:
        dataset: What to draw from.
        shuffle: A new order each epoch; otherwise the order of the data set.
        seed: Default: one that all processes agree on. MMEngine's Runner gives its own.

    Attributes:
        start: Draws of all processes together that are already done.
    """

    def __init__(self, dataset: Dataset, shuffle: bool = True, seed: int | None = None) -> None:
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def __iter__(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """``(index, (seed, k))`` without end."""
        draw, epoch, order = self.start + self.rank, None, np.arange(self.size)
        while True:
            if self.shuffle and draw // self.size != epoch:
                epoch = draw // self.size
                order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            yield int(order[draw % self.size]), (self.seed, draw)
            draw += self.world_size

    def __len__(self) -> int:
        """Images a process sees in an epoch."""
        return -(-self.size // self.world_size)
