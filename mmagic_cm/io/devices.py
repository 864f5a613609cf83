"""Where to compute."""

import torch

from ..errors import InputError


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """A device that is there: the one that is named, else a GPU where there is one, else the CPU.

    Raises:
        InputError: It cannot be used here.
    """
    if device is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split('\n')[0]
        raise InputError(f'The device {device} cannot be used here: {reason}') from error
    return device
