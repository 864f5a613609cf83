"""What MMEngine's Runner needs to train consistency models and to resume them exactly."""

from .checkpoint_hook import CheckpointHook
from .curriculum_hook import CurriculumHook
from .ema import EMATracker
from .ema_hook import EMAHook
from .loops import ResumableIterLoop
from .mixed_precision import MixedPrecisionOptimWrapper
from .progress_bar_hook import ProgressBarHook
from .run_summary_hook import RunSummaryHook
from .runner import Runner
from .sample_grid_hook import SampleGridHook
from .stage_hook import StageHook
from .training_info_hook import TrainingInfoHook

__all__ = [
    'CheckpointHook',
    'CurriculumHook',
    'EMAHook',
    'EMATracker',
    'MixedPrecisionOptimWrapper',
    'ProgressBarHook',
    'ResumableIterLoop',
    'RunSummaryHook',
    'Runner',
    'SampleGridHook',
    'StageHook',
    'TrainingInfoHook',
]
