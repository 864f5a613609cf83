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
from .progressive import ProgressiveDistillation
from .score_matching import DenoisingScoreMatching
from .staged import StagedObjective

__all__ = [
    'LPIPS',
    'ConsistencyDistillation',
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
]
