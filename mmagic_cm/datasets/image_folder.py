"""Any folder of pictures, and ImageNet."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mmengine.logging import print_log

from ..errors import InputError, closest, doing
from ..io.files import existing_file
from ..registry import DATASETS
from .base import ImageDataset

MAX_DIGITS = 5  # of a label: each class below it takes memory
SUFFIXES = ('.jpg', '.jpeg', '.png', '.gif', '.webp', '.bmp')


def list_images(root: str | Path) -> list[str]:
    """Paths of all pictures below a folder, relative to it, with '/' between the parts, sorted.

    Hidden files and folders are left out; links to folders are followed, each folder once.

    Raises:
        InputError: There is no such folder.
        OSError: One below it cannot be read.
    """
    root = str(root)
    if not os.path.isdir(root):
        raise InputError(f'There is no folder {root}: give the folder of pictures as data_root.')
    found, seen = [], set()
    # Texts, not Paths: ImageNet has more than a million of these.
    for folder, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        below = os.path.relpath(folder, root).replace(os.sep, '/')
        prefix = '' if below == '.' else f'{below}/'
        found += [prefix + name for name in files if is_image(name) and not name.startswith('.')]
    return sorted(found)


def _raise(error: OSError) -> NoReturn:
    raise error


def is_image(name: str) -> bool:
    """Whether a file name ends as those of pictures do."""
    return name.lower().endswith(SUFFIXES)


def class_names(names: Sequence[str], labels: str | None, where: str) -> list[str] | None:
    """The class of each picture by its name in a folder or data base.

    Args:
        names: Relative paths.
        labels: 'folder': the first sub-folder; 'name': the file's name up to the first '_' (the
            layout of the paper's code); 'auto': sub-folders, if there are several; None: no
            classes.
        where: What to call the folder in an error.

    Returns:
        A class for each name, or None where there are no classes.

    Raises:
        InputError: A name does not say its class, or ``labels`` is unknown.
    """
    if labels not in {'auto', 'folder', 'name', None}:
        raise InputError(f"labels must be 'auto', 'folder', 'name' or None, not {labels!r}.")
    if labels is None:
        return None
    if labels == 'name':
        names, mark, layout = [name.rsplit('/', 1)[-1] for name in names], '_', 'CLASS_NAME.jpg'
    else:
        mark, layout = '/', 'in the sub-folder of its class'
    odd = next((name for name in names if mark not in name), None)
    if odd is not None:
        if labels == 'auto' and len({name.partition('/')[0] for name in names if '/' in name}) < 2:
            return None
        raise InputError(
            f'labels={labels!r}: {odd} in {where} is not {layout}, as all must be '
            f'(labels=None: no classes).'
        )
    found = [name.partition(mark)[0] for name in names]
    return found if labels != 'auto' or len(set(found)) > 1 else None


@DATASETS.register_module()
class ImageFolder(ImageDataset):
    """All pictures in a folder and its sub-folders, in the order of their paths.

    With ``ann_file``, a text of lines ``path label`` (or ``path`` alone), it is those pictures
    instead. As everywhere in MMEngine, ``ann_file`` and ``data_prefix['img_path']``, the folder
    that the paths start from, are below ``data_root``.

    The classes are ``metainfo['classes']``. Give ``metainfo=dict(classes=[...])`` for an order
    other than that of the sorted names.

    Args:
        data_root: The folder.
        labels: Where the classes come from, see :func:`class_names`; of no use with ``ann_file``,
            except that None drops its labels.
        **settings: Of :class:`ImageDataset` and MMEngine's ``BaseDataset``.

    Raises:
        InputError: No such folder, no pictures in it, or wrong labels.
    """

    def __init__(
        self, data_root: str | None = None, labels: str | None = 'auto', **settings
    ) -> None:
        if not data_root:
            raise InputError(
                f'{type(self).__name__} needs data_root, the folder of pictures: '
                f'--cfg-options data_root=FOLDER.'
            )
        self.labels = labels
        super().__init__(data_root=str(data_root), **settings)

    def load_data_list(self) -> list[dict]:
        """MMEngine's entry: ``img_path``, and ``gt_label`` where there are classes."""
        folder = os.path.normpath(self.data_prefix['img_path'])
        if self.ann_file:
            names, labels = read_annotations(self.ann_file)
            labels = labels if self.labels is not None else None
            if labels:
                self._number_classes(labels)
        else:
            names = list_images(folder)
            if not names:
                raise InputError(why_empty(folder))
            labels = self._label_by_name(class_names(names, self.labels, folder))
        paths = [os.path.join(folder, name) for name in names]
        if labels is None:
            return [dict(img_path=path) for path in paths]
        return [
            dict(img_path=path, gt_label=label) for path, label in zip(paths, labels, strict=True)
        ]

    def _label_by_name(self, found: Sequence[str] | None) -> list[int] | None:
        if found is None:
            return None
        classes = tuple(self._metainfo.get('classes') or sorted(set(found)))
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise InputError(
                f'{self.data_root} holds pictures of {unknown[0]!r}, which is not among the '
                f'classes of metainfo.{closest(unknown[0], classes[:20])}'
            )
        self._metainfo['classes'] = classes
        numbers = {name: label for label, name in enumerate(classes)}
        return [numbers[name] for name in found]

    def _number_classes(self, labels: Sequence[int]) -> None:
        """Name the classes of an ann_file, which knows numbers only."""
        highest = max(labels)
        classes = self._metainfo.setdefault('classes', tuple(map(str, range(highest + 1))))
        if highest >= len(classes):
            raise InputError(
                f'{self.ann_file}, line {labels.index(highest) + 1}: label {highest} is out of '
                f'range, metainfo has {len(classes)} classes, 0 to {len(classes) - 1}.'
            )


def read_annotations(path: str | Path) -> tuple[list[str], list[int] | None]:
    """Read lines ``path label``, or ``path`` alone; blank lines are no harm at the end.

    Returns:
        Paths and labels; None for labels where no line has one.

    Raises:
        InputError: No such file, nothing in it, or a line that does not fit.
    """
    path = existing_file(path, 'ann_file')
    with doing(f'reading {path}'):
        lines = path.read_text(encoding='utf-8').rstrip().splitlines()
    names, labels = [], []
    for number, line in enumerate(lines, 1):
        name, label = line.strip(), None
        if not is_image(name):
            *name, label = name.rsplit(maxsplit=1) or ['']
            name = name[0] if name else ''
        if not name or not (label is None or (label.isdecimal() and len(label) <= MAX_DIGITS)):
            raise InputError(
                f"{path}, line {number}: {line!r} is not 'path label' with a whole number as "
                f'label, from 0 up and of at most {MAX_DIGITS} digits.'
            )
        names.append(name)
        labels.append(label)
    if not names:
        raise InputError(f'{path} is empty: it must name a picture a line.')
    without = labels.count(None)
    if 0 < without < len(labels):
        raise InputError(
            f'{path}, line {labels.index(None) + 1}: no label, but other lines have one.'
        )
    return names, None if without else [*map(int, labels)]


def why_empty(folder: str) -> str:
    """A sentence about a folder without pictures."""
    archives = [name for name in sorted(os.listdir(folder)) if name.endswith(('.tar', '.zip'))]
    if archives:
        return f'{folder} holds archives such as {archives[0]} and no pictures: unpack them first.'
    if os.path.exists(os.path.join(folder, 'data.mdb')):
        return f"{folder} is an LMDB: read it by type='LMDBImages' (or 'LSUN'), not by a folder."
    return f'There are no pictures ({", ".join(SUFFIXES)}) in {folder} or its sub-folders.'


@DATASETS.register_module()
class ImageNet(ImageFolder):
    """ImageNet's 1,000 classes; labels follow the sorted names of their folders, as everywhere.

    The training set is a folder a class; the validation set is that, too, or has an ``ann_file``.

    Args:
        labels: 'folder', 'name' (``n01440764_10026.JPEG`` in one folder), or None.
        **settings: Of :class:`ImageFolder`.
    """

    NUM_CLASSES = 1000

    def __init__(self, labels: str | None = 'folder', **settings) -> None:
        super().__init__(labels=labels, **settings)

    def load_data_list(self) -> list[dict]:
        """MMEngine's entry, see :class:`ImageFolder`."""
        data_list = super().load_data_list()
        classes = self._metainfo.get('classes')
        if classes is not None and len(classes) != self.NUM_CLASSES:
            print_log(
                f'{self.data_root} has {len(classes):,} classes, and ImageNet has '
                f'{self.NUM_CLASSES:,}: labels are those of this part of it.',
                'current',
                logging.WARNING,
            )
        return data_list
