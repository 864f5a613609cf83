"""What training minimises."""

from .consistency import (
    ConsistencyDistillation,
    ConsistencyTraining,
    DenoisingScoreMatching,
    EasyConsistencyTuning,
    ImprovedConsistencyTraining,
    ProgressiveDistillation,
    StagedObjective,
)
from .lpips import LPIPS

__all__ = [
    'LPIPS',
    'ConsistencyDistillation',
    'ConsistencyTraining',
    'DenoisingScoreMatching',
    'EasyConsistencyTuning',
    'ImprovedConsistencyTraining',
    'ProgressiveDistillation',
    'StagedObjective',
]
