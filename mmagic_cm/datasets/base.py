"""What all image data sets share."""

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from ..errors import InputError
from ..io.images import BadImageError, open_image
from ..registry import TRANSFORMS, resolve
from .transforms import CenterCrop

# Bad images one after another before a data set is called unusable.
MAX_REPLACEMENTS = 100


class ImageDataset(BaseDataset):
    """MMEngine's dataset, whose transforms draw from a generator of their own.

    ``dataset[i]`` is image i; ``dataset[i, key]``, which :class:`ResumableSampler` asks for, is
    image i with the transforms' random draws seeded by ``key``. Transforms find the generator, a
    :class:`random.Random`, as ``results['rng']``.

    Subclasses write ``load_data_list``: a list of dicts with ``img`` (uint8 (H, W, C)) or what a
    transform loads it from (``img_path``, or ``img_bytes`` with ``img_name``), and ``gt_label``
    where there are classes.

    Args:
        pipeline: Transforms: configs, whose bare names are ours, or callables.
        bad_images: What to do about a picture that cannot be decoded or is too small: 'refuse' to
            go on, or 'skip' it: say so once in each process, and take another picture, which
            depends on the key of the draw alone.
        **settings: Of MMEngine's ``BaseDataset``.
    """

    def __init__(
        self, pipeline: Sequence[dict | Callable] = (), bad_images: str = 'refuse', **settings
    ) -> None:
        if bad_images not in {'refuse', 'skip'}:
            raise InputError(f"bad_images must be 'refuse' or 'skip', not {bad_images!r}.")
        self.bad_images = bad_images
        self._warned: set[str] = set()
        pipeline = [resolve(TRANSFORMS, transform) for transform in pipeline]
        super().__init__(pipeline=pipeline, **settings)

    def prepare_data(self, draw: int | tuple[int, Any]) -> dict:
        """One image through the pipeline.

        Raises:
            BadImageError: The image cannot be used and bad images are refused, or so many cannot
                that no other was found.
        """
        index, key = draw if isinstance(draw, tuple) else (draw, draw)
        others = None
        for _ in range(MAX_REPLACEMENTS):
            results = self.get_data_info(int(index))
            # Python's generator: numpy's takes five times as long to seed, once an image.
            results['rng'] = random.Random(repr(key))
            try:
                return self.pipeline(results)
            except BadImageError as error:
                if self.bad_images == 'refuse':
                    advice = "Mend or remove it, or set the data set's bad_images='skip'."
                    raise BadImageError(f'{error} {advice}') from error
                self._warn(str(error))
            others = others or random.Random(f'another {key!r}')
            index = others.randrange(len(self))
        raise BadImageError(
            f'{MAX_REPLACEMENTS} images drawn from {self.data_root} one after another are '
            f'unusable: look at the warnings above.'
        )

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            print_log(f'{sentence} Another one is taken instead.', 'current', logging.WARNING)

    def describe(self, num_looked_at: int = 100) -> str:
        """What there is to learn from, in a sentence: numbers, classes, sizes, the crop.

        Args:
            num_looked_at: Images, spread over the data set, whose sizes are read.
        """
        classes = self.metainfo.get('classes')
        text = f'{len(self):,} images' + (f' in {len(classes):,} classes' if classes else '')
        count = min(num_looked_at, len(self))
        looked_at = [i * len(self) // count for i in range(count)]
        sizes = [_size(self.get_data_info(index)) for index in looked_at]
        known = sorted(filter(None, sizes), key=lambda size: (size[0] * size[1], size))
        num_bad = len(sizes) - len(known)
        found = [f'{num_bad} cannot be read'] if num_bad else []
        if known:
            smallest, largest = (f'{width} x {height}' for width, height in (known[0], known[-1]))
            number = f'{len(known)} {"is" if len(known) == 1 else "are"}' if num_bad else 'all are'
            found.append(
                f'{number} {smallest} pixels'
                if known[0] == known[-1]
                else f'sizes run from {smallest} to {largest}'
            )
        text += f'; of {len(sizes)} looked at, {" and ".join(found)}'
        for transform in self.pipeline.transforms:
            if isinstance(transform, CenterCrop):
                side = transform.size
                text += f'; each is cropped to its central square and resized to {side} x {side}'
        return text + '.'


def _size(info: dict) -> tuple[int, int] | None:
    """(width, height) of an entry of a data list, of which only the header is read."""
    if 'img' in info:
        return info['img'].shape[1], info['img'].shape[0]
    try:
        with open_image(info['img_bytes'] if 'img_bytes' in info else info['img_path']) as image:
            return image.size
    except BadImageError:
        return None
