"""Download released weights: by an explicit call, checked before they are used."""

from functools import partial
from pathlib import Path

from torch import nn

from ..errors import InputError
from ..registry import MODELS
from .checkpoint import Checkpoint
from .layouts import without_weights
from .released import ReleasedModel, released_model


def fetch(name: str) -> Path:
    """Download a released model into the cache, unless it is there; it goes on where it stopped.

    Args:
        name: As in :data:`~mmagic_cm.checkpoints.released.RELEASED`.

    Returns:
        Its file.

    Raises:
        InputError: An unknown name, no network, or a file that is not what it should be.
    """
    model = released_model(name)
    if model.path.is_file():
        check_file(model, model.path)
    return model.file.fetch(partial(check_file, model))


def check_file(model: ReleasedModel, path: Path) -> None:
    """Refuse a file that is cut short or damaged, or that holds other weights than the model's."""
    with without_weights():
        denoiser = MODELS.build(model.config().model.denoiser)
    try:
        Checkpoint(path).fit(nn.ModuleDict(dict(denoiser=denoiser)))
    except InputError as error:
        raise InputError(f'{path} is not {model.url}: {error} Fetch it again.') from error
