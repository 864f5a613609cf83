"""What MMEngine's Runner needs to train consistency models and to resume them exactly."""

from .averages import EMATracker
from .hooks import (
    CheckpointHook,
    CurriculumHook,
    EMAHook,
    ProgressBarHook,
    ProgressiveDistillationHook,
    RunSummaryHook,
    SampleGridHook,
    StageHook,
    TrainingInfoHook,
)
from .loops import ResumableIterLoop
from .mixed_precision import MixedPrecisionOptimWrapper
from .runner import Runner
from .schedulers import InverseSqrtLR

__all__ = [
    'CheckpointHook',
    'CurriculumHook',
    'EMAHook',
    'EMATracker',
    'InverseSqrtLR',
    'MixedPrecisionOptimWrapper',
    'ProgressBarHook',
    'ProgressiveDistillationHook',
    'ResumableIterLoop',
    'RunSummaryHook',
    'Runner',
    'SampleGridHook',
    'StageHook',
    'TrainingInfoHook',
]
