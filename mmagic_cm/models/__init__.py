"""Networks, denoisers, objectives, and the model that MMEngine's Runner trains."""

from .consistency_model import ConsistencyModel
from .data_preprocessor import DataPreprocessor
from .denoiser import ConsistencyParameterization, EDMParameterization, KarrasDenoiser
from .objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    DenoisingScoreMatching,
    EasyConsistencyTuning,
    ImprovedConsistencyTraining,
    ProgressiveDistillation,
    StagedObjective,
)
from .perceptual import LPIPS
from .teacher import Teacher
from .unet import ADMUNet

__all__ = [
    'LPIPS',
    'ADMUNet',
    'ConsistencyDistillation',
    'ConsistencyModel',
    'ConsistencyParameterization',
    'ConsistencyTraining',
    'DataPreprocessor',
    'DenoisingScoreMatching',
    'EDMParameterization',
    'EasyConsistencyTuning',
    'ImprovedConsistencyTraining',
    'KarrasDenoiser',
    'ProgressiveDistillation',
    'StagedObjective',
    'Teacher',
]
