"""The one sampling loop: batches, labels, seeds."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..diffusion.noise import PerSampleNoise, derive_seed
from ..diffusion.samplers import DiffusionSampler, Noise
from ..errors import InputError
from ..models.consistency_model import ConsistencyModel
from ..models.data_preprocessor import check_labels

Labels = int | str | Sequence[int] | np.ndarray | torch.Tensor | None


def check_seed(seed: int) -> int:
    """The seed as a plain int; an InputError where it is no whole number from 0 up."""
    try:
        whole = int(seed)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != seed:
        raise InputError(f'seed must be a whole number from 0 up, not {seed!r}.')
    return whole


def choose_labels(
    model: ConsistencyModel, indices: Sequence[int], labels: Labels = None, seed: int = 0
) -> torch.Tensor | None:
    """The label of each image.

    Args:
        model: Tells the number of classes.
        indices: Numbers of the images, (N,).
        labels: One for all, one for each, or None: drawn uniformly, from (seed, i) for image i.
            -1 means no class, where the network knows that. As a text: 'random' (as None),
            'balanced' (all classes in turn), '1,5,9' or '0-9,20' (these in turn: image i has the
            label i modulo their number).
        seed: Of the set of images.

    Returns:
        int64 (N,) on the CPU, or None where the model is unconditional.

    Raises:
        InputError: Labels out of range, too many or too few, or for an unconditional model.
    """
    seed = check_seed(seed)
    if isinstance(labels, str) and labels == 'random':
        labels = None
    if model.num_classes is None:
        if labels is not None:
            raise InputError('This model is unconditional: it takes no labels.')
        return None
    if isinstance(labels, str):
        labels = _labels_from_text(model, indices, labels)
    if labels is None:
        drawn = [derive_seed(seed, int(i), 'label') % model.num_classes for i in indices]
        return torch.tensor(drawn, dtype=torch.int64)
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'Labels are whole numbers, not {labels!r}.') from error
    labels = labels.expand(len(indices)) if labels.ndim == 0 else labels.reshape(-1)
    if len(labels) != len(indices):
        raise InputError(f'{len(labels)} labels were given for {len(indices)} images.')
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f'Labels are whole numbers, not {labels.dtype}.')
    labels = labels.to('cpu', torch.int64)
    check_labels(labels, model.num_classes, model.null_class)
    return labels


def _labels_from_text(model: ConsistencyModel, indices: Sequence[int], text: str) -> list[int]:
    classes: list[int] = []
    for part in f'0-{model.num_classes - 1}'.split(',') if text == 'balanced' else text.split(','):
        match = re.fullmatch(r'(-1|\d+)(?:-(\d+))?', part.strip())
        if match is None:
            raise InputError(
                f"Labels are whole numbers such as '1,5,9', a range such as '0-9', 'balanced' or "
                f"'random', not {text!r}."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f'The range {part.strip()!r} of labels runs backwards.')
        # Before the range is unrolled, which may be a slip of the finger long.
        check_labels(np.array([first, last]), model.num_classes, model.null_class)
        classes += range(first, last + 1)
    return [classes[int(i) % len(classes)] for i in indices]


def iter_samples(
    model: ConsistencyModel,
    indices: Sequence[int],
    labels: torch.Tensor | None = None,
    sampler: DiffusionSampler | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    noise: Callable[[int, Sequence[int]], Noise] = PerSampleNoise,
    dropout: bool = False,
) -> Iterator[torch.Tensor]:
    """Draw images batch by batch.

    Image i depends on (seed, i, its label) alone: not on the batch size, the device type (to one
    grey level), or the number of processes, each of which takes its own ``indices``. With another
    ``noise`` or ``dropout`` it depends on its batch, too.

    Args:
        model: What to sample from.
        indices: Numbers of the images, (N,).
        labels: int64 (N,) as :func:`choose_labels` returns them.
        sampler: Default: the model's own.
        seed: Of the set of images.
        batch_size: Images at a time.
        progress: Show a bar.
        noise: One stream an image, or one a batch, see :meth:`ConsistencyModel.sample`.
        dropout: Keep dropout, see :meth:`ConsistencyModel.sample`.

    Yields:
        uint8 (n, C, H, W) on the device of the model, in the order of ``indices``.
    """
    seed = check_seed(seed)
    if batch_size < 1:
        raise InputError(f'batch_size must be at least 1, not {batch_size}.')
    # One bar: over the images, or over the steps where a single batch holds all images.
    single = len(indices) <= batch_size
    hidden = single or not progress
    with tqdm(total=len(indices), desc='sampling', unit='image', disable=hidden) as bar:
        for begin in range(0, len(indices), batch_size):
            batch = slice(begin, begin + batch_size)
            of_batch = None if labels is None else labels[batch]
            shown = progress and single
            images = model.sample(
                indices[batch], of_batch, sampler, seed, shown, noise=noise, dropout=dropout
            )
            yield images
            bar.update(len(images))


def sample_images(*args: Any, **settings: Any) -> np.ndarray:
    """All images of :func:`iter_samples`, which takes the same arguments, as uint8 (N, H, W, C)."""
    images = torch.cat([batch.cpu() for batch in iter_samples(*args, **settings)])
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
