import time

import torch

from mmagic_cm.benchmarks.timing import Parts, take_turns

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
    assert 0.001 <= seconds['first'] < 0.1
    assert seconds['second'] < seconds['first']


def test_parts_add_up_by_the_name_of_the_moment():
    parts = Parts(CPU)
    wait = parts.wrap(lambda: 'a' if len(parts.seconds) == 0 else 'b', time.sleep)
    wait(0.02)
    wait(0.01)
    with parts.measure('b'):
        time.sleep(0.01)
    assert parts.calls == {'a': 1, 'b': 2}
    assert parts.seconds['a'] >= 0.02
    assert parts.seconds['b'] >= 0.02
    parts.clear()
    assert not parts.seconds
    assert not parts.calls
