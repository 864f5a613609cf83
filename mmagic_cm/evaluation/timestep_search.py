"""The search for the noise levels at which multistep sampling evaluates the network.

Multistep sampling (algorithm 1) needs levels between the first, ``sigma_max``, and the last. The
paper (section 3, on algorithm 1) finds them greedily: one at a time, each by a ternary search for
the least FID, on the assumption that, given the levels found before, FID is a unimodal function of
the next one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError

Timesteps = tuple[int, ...]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        ts: The best indices with the number of evaluations that was asked for.
        score: Theirs.
        tried: All candidates with their scores in the order of evaluation; among them, where more
            than two evaluations were asked for, those with fewer.
    """

    ts: Timesteps
    score: float
    tried: dict[Timesteps, float]


def search_timesteps(
    score: Callable[[Timesteps], float], num_scales: int, num_steps: int = 2
) -> SearchResult:
    """Search the indices ``ts`` of a :class:`~mmagic_cm.diffusion.samplers.MultistepSampler`.

    ``ts`` are indices into the Karras grid of ``num_scales`` levels, 0 being ``sigma_max``. The
    first evaluation is at 0, and N - 1 = ``num_scales - 1``, ``sigma_min``, ends the trajectory
    without an evaluation. What is searched is

    - of two evaluations the index i of the second: ``(0, i, N - 1)`` with i in 1 .. N - 2;
    - of three, i as before (at most N - 3, so that there is room for another), and then j in
      i + 1 .. N - 2 with i kept: ``(0, i, j, N - 1)``;
    - of four and more, likewise, one index after the other.

    Each of these is a ternary search that ends, with three indices or fewer left, by looking at
    all of them; then the best of all that were tried counts. On a unimodal score that is the
    minimum, after at most 12 evaluations of 40 scales and 20 of 201.

    Args:
        score: The figure of a candidate, lower is better; called once for each. To be meaningful
            it takes the same noise for all of them.
        num_scales: N, levels of the grid.
        num_steps: Evaluations an image, at least 2.

    Returns:
        The best of all that were tried with ``num_steps`` evaluations; of equals the first by
        index.

    Raises:
        InputError: A grid without room for so many evaluations; a score that is NaN.
    """
    check_search(num_scales, num_steps)
    last = num_scales - 1
    tried: dict[Timesteps, float] = {}

    def look(ts: Timesteps) -> float:
        if ts not in tried:
            tried[ts] = float(score(ts))
            if math.isnan(tried[ts]):
                raise InputError(f'The score of ts = {ts} is not a number: look at its samples.')
        return tried[ts]

    found: Timesteps = (0,)
    for still_to_find in reversed(range(num_steps - 1)):
        _search_next(look, found, last, last - 1 - still_to_find)
        found = _best(tried, len(found) + 2, found)[:-1]
    best = _best(tried, num_steps + 1)
    return SearchResult(best, tried[best], tried)


def check_search(num_scales: int, num_steps: int) -> None:
    """Look whether there is anything to search, see :func:`search_timesteps`.

    Raises:
        InputError: There is not.
    """
    if num_steps < 2:
        raise InputError(f'num_steps must be at least 2, not {num_steps}: nothing is to be found.')
    if num_scales < num_steps + 1:
        raise InputError(
            f'{num_scales} scales leave no room for {num_steps} evaluations: take at least '
            f'{num_steps + 1}.'
        )


def _search_next(
    look: Callable[[Timesteps], float], found: Timesteps, last: int, high: int
) -> None:
    """Ternary search for the index after those found, up to and with ``high``."""
    low = found[-1] + 1
    while high - low >= 3:
        third = (high - low) // 3
        left, right = low + third, high - third
        at_left, at_right = look((*found, left, last)), look((*found, right, last))
        # The worse of the two and all beyond it are out; of two equals, what lies beyond both.
        if at_left < at_right:
            high = right - 1
        elif at_left > at_right:
            low = left + 1
        else:
            low, high = left, right
    for index in range(low, high + 1):
        look((*found, index, last))


def _best(tried: dict[Timesteps, float], length: int, begin: Timesteps = ()) -> Timesteps:
    """The best of the candidates with so many indices and this beginning."""
    fitting = (ts for ts in tried if len(ts) == length and ts[: len(begin)] == begin)
    return min(fitting, key=lambda ts: (tried[ts], ts))
