"""Hooks of MMEngine's Runner."""

from .checkpoint import CheckpointHook
from .curriculum import CurriculumHook
from .ema import EMAHook
from .progress_bar import ProgressBarHook
from .progressive_distillation import ProgressiveDistillationHook
from .run_summary import RunSummaryHook
from .sample_grid import SampleGridHook
from .stages import StageHook
from .training_info import TrainingInfoHook

__all__ = [
    'CheckpointHook',
    'CurriculumHook',
    'EMAHook',
    'ProgressBarHook',
    'ProgressiveDistillationHook',
    'RunSummaryHook',
    'SampleGridHook',
    'StageHook',
    'TrainingInfoHook',
]
