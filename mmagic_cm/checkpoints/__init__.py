"""Files of weights: safe reading, the layouts that they come in, writing, the released ones."""

from .checkpoint import Checkpoint, is_checkpoint
from .configs import config_inside, sampling_config, sampling_part
from .layouts import check_settings, fit_state_dict, select_weights
from .reading import read_checkpoint, register_safe_loaders
from .released import RELEASED, find_released, released_model

__all__ = [
    'RELEASED',
    'Checkpoint',
    'check_settings',
    'config_inside',
    'find_released',
    'fit_state_dict',
    'is_checkpoint',
    'read_checkpoint',
    'register_safe_loaders',
    'released_model',
    'sampling_config',
    'sampling_part',
    'select_weights',
]
