"""What training minimises."""

from .base import Draw, Objective
from .consistency import (
    ConsistencyDistillation,
    ConsistencyTraining,
    EasyConsistencyTuning,
    ImprovedConsistencyTraining,
)
from .continuous import ContinuousConsistencyDistillation, ContinuousConsistencyTraining
from .lpips import LPIPS
from .mid_training import ConsistencyMidTraining
from .progressive import ProgressiveDistillation
from .score_matching import DenoisingScoreMatching
from .staged import StagedObjective
from .truncated import TruncatedConsistencyTraining

__all__ = [
    'LPIPS',
    'ConsistencyDistillation',
    'ConsistencyMidTraining',
    'ConsistencyTraining',
    'ContinuousConsistencyDistillation',
    'ContinuousConsistencyTraining',
    'DenoisingScoreMatching',
    'Draw',
    'EasyConsistencyTuning',
    'ImprovedConsistencyTraining',
    'Objective',
    'ProgressiveDistillation',
    'StagedObjective',
    'TruncatedConsistencyTraining',
]
