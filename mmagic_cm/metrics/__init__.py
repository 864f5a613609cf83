"""Metrics: each one as a function of features, and what extracts these."""

from .digits import DigitsJudge
from .features import FeatureExtractor, Features, PixelFeatures, extract
from .fid import Gaussian, GaussianAccumulator, frechet, frechet_distance
from .inception import InceptionFeatures
from .inception_score import inception_score
from .kid import kernel_distance
from .module_features import ModuleFeatures
from .precision_recall import precision_recall
from .scores import HIGHER_IS_BETTER, METRIC_NAMES, compute_scores

__all__ = [
    'HIGHER_IS_BETTER',
    'METRIC_NAMES',
    'DigitsJudge',
    'FeatureExtractor',
    'Features',
    'Gaussian',
    'GaussianAccumulator',
    'InceptionFeatures',
    'ModuleFeatures',
    'PixelFeatures',
    'compute_scores',
    'extract',
    'frechet',
    'frechet_distance',
    'inception_score',
    'kernel_distance',
    'precision_recall',
]
