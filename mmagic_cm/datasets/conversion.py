"""Resize a data set once and for all: what the tools in ``tools/dataset_converters`` stand on."""

import argparse
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import lmdb
from PIL import Image
from tqdm import tqdm

from ..errors import InputError, doing
from ..io.files import in_place_of
from ..io.images import BadImageError, decode_image
from ..io.locks import Lock
from .image_folder import list_images, why_empty
from .lsun import check_whole, close_lmdb, list_keys, read_value
from .transforms import center_crop

# Settings of Pillow's writers; WebP without loss takes three quarters of PNG's room.
FORMATS = dict(
    png=dict(format='PNG'),
    webp=dict(format='WebP', lossless=True),
    jpg=dict(format='JPEG', quality=95),
)
SETTINGS_FILE = 'conversion.json'
BAD_IMAGES_FILE = 'bad_images.txt'
# Images of which the results may wait in memory, and images an LMDB transaction.
WINDOW = 1024
# Of a new LMDB; it grows as it must.
MAP_SIZE = 2**26


@dataclass(frozen=True)
class Source:
    """A folder of pictures, or an LMDB of them."""

    folder: str

    @cached_property
    def is_lmdb(self) -> bool:
        """Whether there is a data base in the folder."""
        return Path(self.folder, 'data.mdb').is_file()

    @cached_property
    def names(self) -> list[str]:
        """Relative paths or keys of all pictures, sorted."""
        if self.is_lmdb:
            return [key.decode() for key in list_keys(self.folder).tolist()]
        return list_images(self.folder)

    @cached_property
    def num_classes(self) -> int:
        """First sub-folders, or parts of the keys; 0 if not all pictures have one."""
        first = {name.partition('/')[0] if '/' in name else None for name in self.names}
        return 0 if None in first else len(first)

    def target_name(self, name: str) -> str:
        """The name without the suffix of the file."""
        return name if self.is_lmdb else os.path.splitext(name)[0]

    def read(self, name: str) -> Image.Image:
        """Decode a picture."""
        path = os.path.join(self.folder, name)
        if not self.is_lmdb:
            return decode_image(path)
        return decode_image(read_value(self.folder, name.encode()), path)


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        present: Images that were there already.
        written: Images that were added.
        bad: A sentence for each that could not be read.
    """

    present: int = 0
    written: int = 0
    bad: list[str] = field(default_factory=list)


def convert(
    source: Source, out: str | Path, size: int, kind: str = 'png', workers: int = 1
) -> Report:
    """Crop all pictures to their central square, resize them, and write them.

    Crop and size are ADM's (:func:`center_crop`), smaller pictures are enlarged. Sub-folders are
    kept. A conversion that was stopped, however hard, goes on where it was.

    Args:
        source: What to convert.
        out: A folder, or ``NAME.lmdb``: an LMDB with the relative paths without suffix as keys.
        size: Side in pixels.
        kind: Of :data:`FORMATS`.
        workers: Processes.

    Raises:
        InputError: Nothing to convert, nothing that can be read, or nowhere to write it.
    """
    out = Path(out)
    if size < 1 or workers < 1:
        raise InputError(f'size and workers must be at least 1, not {size} and {workers}.')
    if Path(source.folder).resolve() in out.resolve().parents:
        raise InputError(f'{out} is inside of the source {source.folder}: choose another --out.')
    targets = _check_names(source)
    sink = _LMDBSink(out) if out.suffix == '.lmdb' else _FolderSink(out, kind)
    with doing(f'writing {out}'), Lock(f'{out.resolve()}.lock', out):
        _claim(out, dict(size=size, format=kind))
        with sink.opened():
            present = sink.names()
            todo = [name for name, target in targets.items() if target not in present]
            report = Report(present=len(targets) - len(todo))
            # Without the names, which would go to the workers with each task.
            work = partial(_convert_one, Source(source.folder), size, kind, sink.folder)
            with tqdm(
                desc=f'writing {out}', total=len(targets), initial=report.present, unit='image'
            ) as bar:
                for results in _run(work, todo, workers):
                    sink.put([(targets[name], data) for name, data, error in results if not error])
                    report.bad += [error for *_, error in results if error]
                    report.written += sum(not error for *_, error in results)
                    bar.update(len(results))
        (out / BAD_IMAGES_FILE).write_text(''.join(f'{line}\n' for line in report.bad))
    if len(report.bad) == len(targets):
        raise InputError(
            f'None of the {len(targets):,} pictures in {source.folder} can be read, see '
            f'{out / BAD_IMAGES_FILE}: {report.bad[0]}'
        )
    return report


def _check_names(source: Source) -> dict[str, str]:
    """What to call each picture; no two the same, none outside of the folder."""
    if not source.names:
        raise InputError(why_empty(source.folder))
    targets = {name: source.target_name(name) for name in source.names}
    taken: dict[str, str] = {}
    for name, target in targets.items():
        if target in taken:
            raise InputError(
                f'{taken[target]} and {name} in {source.folder} would both become {target}: '
                f'rename one.'
            )
        taken[target] = name
        if target.startswith('/') or '..' in target.split('/'):
            raise InputError(f'{name} in {source.folder} is no name for a file.')
    return targets


def _claim(out: Path, settings: dict) -> None:
    """Make the folder, or see that it was made with these settings."""
    path = out / SETTINGS_FILE
    if path.is_file():
        before = json.loads(path.read_text())
        if before != settings:
            raise InputError(
                f'{out} was made with {before}, not with {settings}: choose another --out.'
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f'{out} is there and not made by this command: choose another --out.')
    else:
        out.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(settings).encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; before, its name is one that no data set lists."""
    with in_place_of(path) as fresh:
        fresh.write_bytes(data)


class _FolderSink:
    """Files in a folder, which the workers write themselves."""

    def __init__(self, out: Path, kind: str) -> None:
        self.folder: Path | None = out
        self.kind = kind

    @contextmanager
    def opened(self) -> Iterator[None]:
        yield

    def names(self) -> set[str]:
        return {os.path.splitext(name)[0] for name in list_images(self.folder)}

    def put(self, items: Sequence[tuple[str, None]]) -> None:
        """They are there already."""


class _LMDBSink:
    """An LMDB, which one process writes, a window of images a transaction."""

    folder = None

    def __init__(self, out: Path) -> None:
        self.out = out

    @contextmanager
    def opened(self) -> Iterator[None]:
        close_lmdb(self.out)
        (self.out / 'keys.npy').unlink(missing_ok=True)
        # The map must hold the whole file; it grows in `put`.
        existing = self.out / 'data.mdb'
        size = 2 * existing.stat().st_size if existing.is_file() else 0
        with lmdb.open(str(self.out), map_size=max(size, MAP_SIZE)) as self.environment:
            check_whole(self.environment)
            yield

    def names(self) -> set[str]:
        with self.environment.begin() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            return {key.decode() for key in keys}

    def put(self, items: Sequence[tuple[str, bytes]]) -> None:
        while True:
            try:
                with self.environment.begin(write=True) as transaction:
                    for name, data in items:
                        transaction.put(name.encode(), data)
                return
            except lmdb.MapFullError:
                self.environment.set_mapsize(2 * self.environment.info()['map_size'])


def _convert_one(
    source: Source, size: int, kind: str, folder: Path | None, name: str
) -> tuple[str, bytes | None, str | None]:
    """(name, the picture's bytes if it is not to be written to a folder here, or an error)."""
    try:
        image = center_crop(source.read(name), size)
    except BadImageError as error:
        return name, None, str(error)
    buffer = io.BytesIO()
    image.save(buffer, **FORMATS[kind])
    if folder is None:
        return name, buffer.getvalue(), None
    path = folder / f'{source.target_name(name)}.{kind}'
    _write(path, buffer.getvalue())
    return name, None, None


def _run(work: partial, names: Sequence[str], workers: int) -> Iterator[list]:
    """Results of ``work(name)``, a list of them at a time."""
    if workers == 1:
        for start in range(0, len(names), WINDOW):
            yield [*map(work, names[start : start + WINDOW])]
        return
    with ProcessPoolExecutor(workers, get_context('fork'), _start_worker, (os.getpid(),)) as pool:
        for start in range(0, len(names), WINDOW):
            yield [*pool.map(work, names[start : start + WINDOW], chunksize=8)]


def _start_worker(parent: int) -> None:
    # Ctrl-C is for the parent, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Do not outlive a parent that was killed: the pool's workers would wait for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def check_counts(
    source: Source,
    num_images: int,
    num_classes: int | None = None,
    *,
    name: str,
    args: argparse.Namespace,
    found: int | None = None,
) -> None:
    """Warn, or refuse with ``args.strict``, if a source is not what the data set is known to be.

    Args:
        source: What is there.
        num_images: Images that must be there.
        num_classes: Classes that must be there; None: any.
        name: Of the data set.
        args: Of the command line.
        found: Images that are there; default: they are listed and counted.
    """
    found = len(source.names) if found is None else found
    sentence = f'{source.folder} holds {found:,} images'
    expected = f'{name} has {num_images:,}'
    wrong = found != num_images
    if num_classes is not None:
        sentence += f' in {source.num_classes:,} classes'
        expected += f' in {num_classes:,}'
        wrong |= source.num_classes != num_classes
    if wrong and args.strict:
        raise InputError(f'{sentence}, and {expected}.')
    if wrong:
        print(f'warning: {sentence}, and {expected}.', file=sys.stderr)


def run_conversion(source: Source, args: argparse.Namespace) -> None:
    """Convert as the command line says, and print what was done."""
    report = convert(source, args.out, args.size, args.format, args.workers)
    print(
        f'{args.out} holds {report.present + report.written:,} images of {args.size} x {args.size}'
        f' pixels; {report.present:,} of them were there already.'
    )
    if report.bad:
        print(f'{len(report.bad):,} images were left out, see {args.out}/{BAD_IMAGES_FILE}:')
        print(*report.bad[:10], sep='\n')
