"""Files of weights: safe reading, and the layouts that they come in."""

from .layouts import fit_state_dict, select_weights
from .reading import read_checkpoint, register_safe_loaders

__all__ = ['fit_state_dict', 'read_checkpoint', 'register_safe_loaders', 'select_weights']
