"""Errors as sentences, and jobs that can be stopped."""

import logging
from types import SimpleNamespace

import gradio as gr
import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.web.events import SORRY, Jobs, Listeners, readable
from mmagic_cm.web.outputs import Outputs


def test_errors_are_readable(caplog):
    @readable
    def work(error: Exception) -> None:
        raise error

    with pytest.raises(gr.Error) as told:
        work(InputError('x < 1 is wrong.'))
    assert told.value.message == 'x &lt; 1 is wrong.'
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as told:
        work(KeyError('/secret/path'))
    assert told.value.message == SORRY
    assert 'KeyError' in caplog.text
    assert readable(len)('ab') == 2


def test_stop_reaches_a_job_that_waits_and_one_that_runs():
    jobs = Jobs(Listeners())
    me, other = SimpleNamespace(session_hash='me'), SimpleNamespace(session_hash='other')
    jobs.announce(me)
    jobs.stop(me)
    with jobs.running(me) as is_stopped:
        assert is_stopped()
    with jobs.running(me) as mine, jobs.running(other) as others:
        assert not mine()
        jobs.stop(me)
        assert mine()
        assert not others()
    jobs.stop(me)  # nothing runs: the next job is not meant
    with jobs.running(me) as is_stopped:
        assert not is_stopped()


def test_old_results_are_removed(tmp_path):
    outputs = Outputs(tmp_path / 'outputs', most=2)
    old, fresh = outputs.new(), outputs.new()
    (old / 'a.png').touch()
    newest = outputs.new()
    assert {*(tmp_path / 'outputs').iterdir()} == {fresh, newest}
