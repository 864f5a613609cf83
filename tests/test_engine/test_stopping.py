"""Signals while a model trains."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from mmagic_cm.engine import stopping
from mmagic_cm.engine.stopping import SIGNALS, StopRequest
from mmagic_cm.errors import Stopped


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def default_handlers():
    """Whatever the tests were started with, such as nohup."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_interrupts_nothing_and_is_noted(number, capfd):
    with StopRequest() as request:
        assert request.agreed() == 0
        send(number)
        assert request.agreed() == number
    assert capfd.readouterr().err.startswith(f'\n{number.name}: ')
    # Afterwards signals do what they did.
    assert {signal.getsignal(known) for known in SIGNALS} == {signal.default_int_handler}
    with pytest.raises(KeyboardInterrupt):
        send(number)


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch):
    def fail(descriptor, text):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(stopping.os, 'write', fail)
    with StopRequest() as request:
        send(signal.SIGHUP)
        assert request.agreed() == signal.SIGHUP


def test_a_second_signal_ends_at_once_unless_it_is_the_same_request(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stopping, 'time', SimpleNamespace(monotonic=lambda: now[0]))
    with StopRequest() as request:
        send(signal.SIGINT)
        now[0] = 0.5
        send(signal.SIGTERM)
        assert request.agreed() == signal.SIGINT
        now[0] = 1.5
        with pytest.raises(Stopped) as caught:
            send(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as request:
        send(signal.SIGHUP)
        assert request.agreed() == 0


def test_a_thread_may_train(trainer):
    runner = trainer('edm', max_iters=1)
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert runner.iter == 1
