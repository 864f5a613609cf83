"""The search for timesteps, on scores that were made up."""

import math

import numpy as np
import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.evaluation.timestep_search import count_grid, search_timesteps

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


def test_the_papers_sizes_take_few_evaluations():
    for num_scales, best, most in ((40, 22, 12), (151, 62, 18), (201, 106, 20)):
        assert len(search_timesteps(valley(best), num_scales).tried) <= most


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


def test_a_plateau_is_no_trap():
    # Equal scores on both sides of the least, and a flat bottom.
    found = search_timesteps(lambda ts: max(abs(ts[1] - 20), 4), 41)
    assert found.score == 4


def test_every_candidate_is_judged_once_and_reported_in_order():
    seen, reported = [], []

    def score(ts) -> float:
        seen.append(ts)
        return abs(ts[1] - 5)

    found = search_timesteps(score, 12, 2, lambda ts, score: reported.append((ts, score)))
    assert len(seen) == len(set(seen))
    assert reported == [*found.tried.items()]
    assert [ts for ts, _ in reported] == seen


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


def test_the_grid_looks_at_all():
    stream = np.random.default_rng(1)
    for num_scales, num_steps in ((3, 2), (9, 2), (9, 3), (9, 4)):
        found = search_timesteps(lambda ts: stream.normal(), num_scales, num_steps, method='grid')
        assert len(found.tried) == count_grid(num_scales, num_steps)
        assert found.ts == min(found.tried, key=found.tried.get)


def test_the_configs_own_is_tried_first_and_can_win():
    def score(ts) -> float:
        return -1.0 if ts == (0, 3, 39) else abs(ts[1] - 30)  # a dip where nobody looks

    assert search_timesteps(score, 40).ts == (0, 30, 39)
    found = search_timesteps(score, 40, first=[(0, 3, 39)])
    assert found.ts == next(iter(found.tried)) == (0, 3, 39)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_scales=2), '2 scales leave no room for 2 evaluations: take at least 3'),
        (dict(num_scales=40, num_steps=1), 'num_steps must be at least 2'),
        (dict(num_scales=40, method='tenary'), "Did you mean 'ternary'"),
        (dict(num_scales=40, first=[(0, 22, 38)]), 'rise from 0 to 39'),
        (dict(num_scales=40, first=[(0, 39)]), 'is no candidate'),
        (dict(num_scales=40, first=[(0, 22, 22, 39)], num_steps=3), 'is no candidate'),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(InputError, match=message):
        search_timesteps(lambda ts: 0.0, **settings)


def test_a_score_that_is_no_number_ends_the_search():
    with pytest.raises(InputError, match=r'ts = \(0, \d+, 39\) is not a number'):
        search_timesteps(lambda ts: math.nan, 40)
    # An infinite one is only a bad one.
    assert search_timesteps(lambda ts: math.inf if ts[1] < 9 else ts[1], 40).ts == (0, 9, 39)
