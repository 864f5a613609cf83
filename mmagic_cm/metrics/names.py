"""Figures by their names: which one is meant, and which way is better."""

from collections.abc import Iterable

from ..errors import InputError, closest
from .scores import KNOWN_METRICS

# By the last part of the name: 'digits/accuracy', 'metrics/fid'.
_OF_DIGITS = {'accuracy': True, 'frechet_distance': False, 'near_copies': False}
_BETTER = {name: metric.higher_is_better for name, metric in KNOWN_METRICS.items()} | _OF_DIGITS


def higher_is_better(name: str) -> bool | None:
    """Whether more of a figure is better; None of a figure that is not ours."""
    return _BETTER.get(_short(name))


def find_figure(name: str, names: Iterable[str], where: str) -> str:
    """The full name of a figure: 'fid' may stand for 'metrics/fid'.

    Args:
        name: What the user typed.
        names: All that there are.
        where: In what, for the error.

    Raises:
        InputError: There is none, or there are several.
    """
    names = list(names)
    if name in names:
        return name
    meant = [full for full in names if _short(full) == name]
    if len(meant) > 1:
        raise InputError(f'{name!r} in {where} may be {" or ".join(meant)}: say which.')
    if not meant:
        raise InputError(f'There is no figure {name!r} in {where}.{closest(name, names)}')
    return meant[0]


def usual_figure(names: Iterable[str], where: str) -> str:
    """The figure to go by where the user names none: FID, or the first that is best low.

    Raises:
        InputError: There is none.
    """
    names = list(names)
    low = [name for name in names if higher_is_better(name) is False]
    if not low:
        raise InputError(
            f'{where} has no figure of ours that is best low: name one, of {", ".join(names)}.'
        )
    return next((name for name in low if _short(name) == 'fid'), low[0])


def _short(name: str) -> str:
    return name.rsplit('/', 1)[-1]
