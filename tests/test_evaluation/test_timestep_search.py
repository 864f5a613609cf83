"""The search for timesteps, on scores that were made up."""

import math

import numpy as np
import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.evaluation.timestep_search import search_timesteps

SIZES = range(3, 202)


def valley(best: int, slope_left: float = 1.0, slope_right: float = 3.0):
    """Falls to ``best``, then rises."""

    def score(ts) -> float:
        distance = ts[1] - best
        return slope_right * distance if distance > 0 else -slope_left * distance

    return score


@pytest.mark.parametrize('slopes', [(1.0, 3.0), (1.0, 1.0), (50.0, 0.01)])
def test_the_least_of_every_unimodal_score_is_found(slopes):
    for num_scales in SIZES:
        for best in range(1, num_scales - 1):
            found = search_timesteps(valley(best, *slopes), num_scales)
            assert found.ts == (0, best, num_scales - 1)
            assert found.score == 0
            # Two evaluations leave two thirds of the interval.
            assert len(found.tried) <= 2 * math.log(num_scales, 1.5) + 3
    # Equal scores on both sides of the least, and a flat bottom.
    assert search_timesteps(lambda ts: max(abs(ts[1] - 20), 4), 41).score == 4


def test_a_score_that_is_not_unimodal_gets_the_best_of_all_that_were_tried():
    stream = np.random.default_rng(0)
    for num_scales in (3, 4, 5, 6, 17, 40, 151):
        for num_steps in (2, 3, 4):
            if num_scales <= num_steps:
                continue
            for _ in range(20):
                found = search_timesteps(lambda ts: stream.normal(), num_scales, num_steps)
                full = {ts: s for ts, s in found.tried.items() if len(ts) == num_steps + 1}
                assert found.score == min(full.values()) == full[found.ts]
                assert found.ts == tuple(sorted(set(found.ts)))
                assert (found.ts[0], found.ts[-1]) == (0, num_scales - 1)


def test_every_candidate_is_judged_once():
    seen = []

    def score(ts) -> float:
        seen.append(ts)
        return abs(ts[1] - 5)

    found = search_timesteps(score, 12)
    assert seen == [*found.tried]
    assert len(seen) == len(set(seen))


def test_more_evaluations_keep_what_was_found():
    """The greedy search solves a sum of unimodal terms, each in its own index."""

    def score(ts) -> float:
        return sum(abs(t - best) for t, best in zip(ts[1:-1], (9, 23, 31), strict=False))

    found = search_timesteps(score, 40, 4)
    assert found.ts == (0, 9, 23, 31, 39)
    for ts in found.tried:
        assert len(ts) in (3, 4, 5)
        assert len(ts) == 3 or ts[1] == 9
        assert len(ts) < 5 or ts[2] == 23


def test_room_is_left_for_the_indices_to_come():
    # The best second evaluation alone would be the last index that there is.
    found = search_timesteps(lambda ts: -sum(ts), 10, 4)
    assert found.ts == (0, 6, 7, 8, 9)
    assert search_timesteps(lambda ts: 0.0, 5, 4).ts == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(('num_scales', 'num_steps'), [(2, 2), (4, 4), (40, 1)])
def test_a_grid_without_room(num_scales, num_steps):
    with pytest.raises(InputError, match=str(num_steps)):
        search_timesteps(lambda ts: 0.0, num_scales, num_steps)


def test_a_score_that_is_no_number_ends_the_search():
    with pytest.raises(InputError, match=r'\(0, \d+, 39\)'):
        search_timesteps(lambda ts: math.nan, 40)
    # An infinite one is only a bad one.
    assert search_timesteps(lambda ts: math.inf if ts[1] < 9 else ts[1], 40).ts == (0, 9, 39)
