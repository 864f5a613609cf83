"""What to draw, for loops that judge what a model draws: numbers and labels, no pictures."""

from typing import Any

from torch.utils.data import Dataset

from ..diffusion.noise import derive_seed
from ..errors import InputError
from ..registry import DATASETS


@DATASETS.register_module()
class SampleNumbers(Dataset):
    """The numbers of the images of a set, for the data loaders of validation and test.

    Entry i is ``dict(indices=i, labels=l)``, and ``ConsistencyModel.predict`` draws image i of
    label l. MMEngine's loops and samplers so spread a set over any number of processes.

    Args:
        num_samples: Images of the set.
        num_classes: Labels are drawn uniformly from 0 .. num_classes - 1; None: no labels.
        seed: Label i depends on (seed, i) alone, as in
            :func:`~mmagic_cm.sampling.loop.choose_labels`.

    Raises:
        InputError: A number is not at least 1.
    """

    def __init__(self, num_samples: int, num_classes: int | None = None, seed: int = 0) -> None:
        counts = dict(num_samples=num_samples, num_classes=num_classes)
        if num_classes is None:
            del counts['num_classes']
        for name, value in counts.items():
            if type(value) is not int or value < 1:
                raise InputError(f'SampleNumbers: {name} must be at least 1, not {value!r}.')
        self.num_samples = num_samples
        self.num_classes = num_classes
        self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """Nothing; MMEngine's loops ask for it."""
        return {}

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> dict[str, int]:
        if not 0 <= index < self.num_samples:
            raise IndexError(index)
        entry = dict(indices=index)
        if self.num_classes is not None:
            entry['labels'] = derive_seed(self.seed, index, 'label') % self.num_classes
        return entry
