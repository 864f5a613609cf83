"""The denoiser, and the model that MMEngine's Runner trains."""

from .consistency_model import ConsistencyModel
from .data_preprocessor import DataPreprocessor
from .denoiser import ConsistencyParameterization, EDMParameterization, KarrasDenoiser
from .teacher import Teacher

__all__ = [
    'ConsistencyModel',
    'ConsistencyParameterization',
    'DataPreprocessor',
    'EDMParameterization',
    'KarrasDenoiser',
    'Teacher',
]
