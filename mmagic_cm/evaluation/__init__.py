"""How good samples are."""

from .digits import DigitsJudge
from .frechet import frechet_distance

__all__ = ['DigitsJudge', 'frechet_distance']
