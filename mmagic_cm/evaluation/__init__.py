"""How good samples are."""

from .digits import DigitsJudge
from .digits_metric import DigitsMetric
from .features import FeatureExtractor, Features, PixelFeatures, extract
from .gaussian import Gaussian, GaussianAccumulator, frechet, frechet_distance
from .generative_metrics import GenerativeMetrics
from .inception import InceptionFeatures
from .inception_score import inception_score
from .kernel import kernel_distance
from .manifolds import precision_recall
from .module_features import ModuleFeatures
from .reference import Reference, read_reference, save_reference
from .scores import HIGHER_IS_BETTER, METRIC_NAMES, compute_scores

__all__ = [
    'HIGHER_IS_BETTER',
    'METRIC_NAMES',
    'DigitsJudge',
    'DigitsMetric',
    'FeatureExtractor',
    'Features',
    'Gaussian',
    'GaussianAccumulator',
    'GenerativeMetrics',
    'InceptionFeatures',
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
    'read_reference',
    'save_reference',
]
