"""How good samples are: against what they are judged, and how a run reports it."""

from .digits_metric import DigitsMetric
from .generative_metrics import GenerativeMetrics
from .reference import read_reference, save_reference

__all__ = [
    'DigitsMetric',
    'GenerativeMetrics',
    'read_reference',
    'save_reference',
]
