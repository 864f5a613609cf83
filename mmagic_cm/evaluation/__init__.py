"""How good samples are."""

from .digits import DigitsJudge
from .digits_metric import DigitsMetric
from .frechet import frechet_distance

__all__ = ['DigitsJudge', 'DigitsMetric', 'frechet_distance']
