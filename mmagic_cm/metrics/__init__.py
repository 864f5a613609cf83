"""Metrics: each one as a function of features, and what extracts these."""

from .digits import DigitsJudge
from .features import FeatureExtractor, Features, PixelFeatures, extract
from .fid import Gaussian, GaussianAccumulator, frechet, frechet_distance
from .inception import InceptionFeatures
from .inception_score import inception_score
from .kid import kernel_distance
from .module_features import ModuleFeatures
from .precision_recall import precision_recall
from .scores import KNOWN_METRICS, Metric, Reference, compute_scores

__all__ = [
    'KNOWN_METRICS',
    'DigitsJudge',
    'FeatureExtractor',
    'Features',
    'Gaussian',
    'GaussianAccumulator',
    'InceptionFeatures',
    'Metric',
    'ModuleFeatures',
    'PixelFeatures',
    'Reference',
    'compute_scores',
    'extract',
    'frechet',
    'frechet_distance',
    'inception_score',
    'kernel_distance',
    'precision_recall',
]
