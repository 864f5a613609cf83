"""Networks, denoisers, objectives, and the model that MMEngine's Runner trains."""

from .consistency_model import ConsistencyModel
from .data_preprocessor import DataPreprocessor
from .denoiser import ConsistencyParameterization, EDMParameterization, KarrasDenoiser
from .objectives import (
    ConsistencyTraining,
    DenoisingScoreMatching,
    EasyConsistencyTuning,
    ImprovedConsistencyTraining,
    StagedObjective,
)
from .unet import ADMUNet

__all__ = [
    'ADMUNet',
    'ConsistencyModel',
    'ConsistencyParameterization',
    'ConsistencyTraining',
    'DataPreprocessor',
    'DenoisingScoreMatching',
    'EDMParameterization',
    'EasyConsistencyTuning',
    'ImprovedConsistencyTraining',
    'KarrasDenoiser',
    'StagedObjective',
]
