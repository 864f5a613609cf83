"""Files that are there as a whole or not at all, and those that can be read to their end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, doing

UNFINISHED = '.unfinished'  # ends the names of what is being written


def existing_file(path: str | Path, what: str = 'file') -> Path:
    """The path of a regular file: a pipe or a device would be waited for, or has no end.

    Raises:
        InputError: There is none.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f'There is no {what} {path}.')
    return path


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Make the folders above a file, and name it where it cannot be written."""
    with doing(f'writing {path}'):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield


@contextmanager
def in_place_of(path: str | Path, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Write a file or a folder under another name; rename it at the end, or remove it.

    Args:
        path: What it is to be called; an empty folder of that name is replaced, too.
        durable: Wait until it is on the disk under its name.
        shared: Others may write the same at the same time.

    Returns:
        The other name.
    """
    path = Path(path)
    process = f'.{os.getpid()}' if shared else ''
    fresh = path.with_name(f'.{path.name}{process}{UNFINISHED}')
    with writing(path):
        _remove(fresh)
        try:
            yield fresh
            if durable:
                _sync(fresh)
            if path.is_dir() and fresh.is_dir():
                path.rmdir()
            os.replace(fresh, path)
            if durable:
                _sync(path.parent)
        finally:
            _remove(fresh)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
