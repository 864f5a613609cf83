import time

import torch

from mmagic_cm.benchmarks.timing import Parts, medians, speedups, take_turns

CPU = torch.device('cpu')


def test_calls_alternate_and_the_first_round_does_not_count():
    order = []
    slow_at_first = iter([0.2])

    def first():
        order.append('first')
        time.sleep(next(slow_at_first, 0.001))

    calls = {'first': first, 'second': lambda: order.append('second')}
    seconds = take_turns(calls, CPU, repeats=3, progress=False)
    assert order == ['first', 'second'] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert 0.001 <= medians(seconds)['first'] < 0.1
    assert speedups(seconds, of='second')['first'] > 1


def test_a_speedup_is_that_of_the_rounds():
    """The machine slows down to a third in the second round, and stays slow."""
    seconds = dict(ours=[1.0, 3.0, 3.0, 30.0], other=[1.5, 4.5, 4.8, 33.0], same=[1, 3, 3, 30])
    assert speedups(seconds) == dict(other=1.5, same=1.0)
    assert medians(seconds)['other'] == 4.65


def test_parts_add_up_by_the_name_of_the_moment():
    parts = Parts(CPU)
    wait = parts.wrap(lambda: 'a' if len(parts.seconds) == 0 else 'b', time.sleep)
    wait(0.02)
    wait(0.01)
    with parts.measure('b'):
        time.sleep(0.01)
    assert set(parts.seconds) == {'a', 'b'}
    assert parts.seconds['a'] >= 0.02
    assert parts.seconds['b'] >= 0.02
    parts.clear()
    assert not parts.seconds
