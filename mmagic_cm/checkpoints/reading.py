"""Reading checkpoints without unpickling: ``weights_only=True`` through every loader.

A pickle executes code. MMEngine's own checkpoints name a few classes beside tensors (the log
history); exactly these are allowed, so that resuming works and a hostile file does not.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from numpy.core.multiarray import _reconstruct, scalar

from ..errors import InputError


def _statistics_method(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, by which a pickled HistoryBuffer names its four own methods."""
    if owner is not HistoryBuffer or name not in {'min', 'max', 'mean', 'current'}:
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')
    return getattr(owner, name)


_ALLOWED = [
    HistoryBuffer,
    (_statistics_method, 'builtins.getattr'),
    (_reconstruct, 'numpy.core.multiarray._reconstruct'),
    (_reconstruct, 'numpy._core.multiarray._reconstruct'),
    (scalar, 'numpy.core.multiarray.scalar'),
    (scalar, 'numpy._core.multiarray.scalar'),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in '?' + np.typecodes['AllInteger'] + np.typecodes['AllFloat']},
]


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict:
    """Read a local file of weights.

    Args:
        path: A ``.pth`` or ``.pt`` of MMEngine, of the paper's code, or a plain state dict.
        map_location: As of :func:`torch.load`.

    Returns:
        The dictionary in the file.

    Raises:
        InputError: No such file; a file that is no checkpoint, is cut short, or holds anything
            but tensors, numbers, text and MMEngine's log history.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'There is no checkpoint file {path}.')
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split('WeightsUnpickler error: ')[-1].strip().split('\n')[0]
        raise InputError(
            f'{path} is refused: it is no checkpoint, or holds more than tensors, and loading it '
            f'could run code ({reason}).'
        ) from error
    except Exception as error:  # a damaged file can break the reader anywhere
        reason = f'{type(error).__name__}: {error}'.split('\n')[0]
        raise InputError(
            f'{path} cannot be read: it is cut short or no checkpoint ({reason}).'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{path} holds a {type(checkpoint).__name__}, no dictionary of weights.')
    return checkpoint


# MMEngine's log names a loader by what follows 'load_from_' in its name.
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """A loader of MMEngine's, for local files."""
    return read_checkpoint(filename, map_location)


def load_from_http(
    filename: str, map_location: Any = None, model_dir: str | None = None, progress: bool = True
) -> dict:
    """A loader of MMEngine's, for http and https: downloads once, into torch's cache."""
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    path = folder / filename.split('?')[0].rsplit('/', 1)[-1]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, str(path), progress=progress)
        except OSError as error:  # urllib's errors are OSErrors
            raise InputError(
                f'{filename} cannot be downloaded ({error}). Put the file at {path}, or name a '
                f'local file.'
            ) from error
    return read_checkpoint(path, map_location)


def register_safe_loaders() -> None:
    """Make MMEngine read local and http checkpoints through :func:`read_checkpoint`.

    mmengine 0.10.7 cannot read its own checkpoints on torch >= 2.6, and unpickles what it
    downloads. Idempotent; our command lines, ``init_model`` and ``TrainingInfoHook`` call it.
    """
    register_scheme = mmengine_checkpoint.CheckpointLoader.register_scheme
    register_scheme('', load_from_local, force=True)
    register_scheme(('http://', 'https://'), load_from_http, force=True)
    # What torchvision://, open-mmlab:// and mmcls:// call with the address of their file.
    mmengine_checkpoint.load_from_http = load_from_http
