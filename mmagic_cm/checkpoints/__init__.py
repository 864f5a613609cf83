"""Files of weights: safe reading, the layouts that they come in, writing, the released ones."""

from .configs import config_inside, read_config_inside, sampling_config, sampling_part
from .layouts import check_settings, fit_state_dict, select_weights
from .reading import check_path, read_checkpoint, register_safe_loaders
from .released import RELEASED, released_model

__all__ = [
    'RELEASED',
    'check_path',
    'check_settings',
    'config_inside',
    'fit_state_dict',
    'read_checkpoint',
    'read_config_inside',
    'register_safe_loaders',
    'released_model',
    'sampling_config',
    'sampling_part',
    'select_weights',
]
