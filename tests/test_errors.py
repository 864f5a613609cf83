"""How a command ends: in one line, whatever ended it."""

import logging
import os
import signal
import sys

import pytest
from mmengine.logging import MMLogger
from torch._utils import ExceptionWrapper
from tqdm import tqdm

from mmagic_cm.errors import InputError, Stopped, closest, doing, run_cli


@pytest.fixture
def end(monkeypatch, capsys):
    """Run what a command does; its exit status, and what it says."""
    monkeypatch.setattr(sys, 'argv', ['command'])
    # Of this process are the log of an earlier test, and pytest's way to end.
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logging.getLogger('none'))
    handlers = {number: signal.getsignal(number) for number in (1, 2, 15, 17)}

    def run(main) -> tuple[int, str]:
        capsys.readouterr()
        try:
            run_cli(main)
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def failing(error, *scopes):
    """A command that fails in some scopes, the inner ones last."""

    def main():
        if not scopes:
            raise error
        with doing(scopes[0]):
            failing(error, *scopes[1:])()

    return main


def from_worker(error, scope='reading 1.png'):
    """The error as a DataLoader raises it that a worker has raised."""
    try:
        failing(error, scope)()
    except Exception:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')
    try:
        wrapped.reraise()
    except Exception as raised:
        return raised


def test_closest():
    assert closest('sher', ['shear', 'blur']) == " Did you mean 'shear'? Known: blur, shear."
    assert closest('zzz', ['b', 'a']) == ' Known: a, b.'


@pytest.mark.parametrize(
    ('error', 'scopes', 'line'),
    [
        (InputError('Wrong: do that.'), ['writing a'], 'Wrong: do that.'),
        (from_worker(InputError('a.png is wrong.')), [], 'a.png is wrong.'),
        (OSError(28, 'Full', 'a'), ['x', 'writing a'], 'while writing a: Full: a (OSError)'),
        (OSError('no number'), ['reading b'], 'while reading b: no number (OSError)'),
        (ZeroDivisionError('division by zero'), [], 'division by zero (ZeroDivisionError)'),
        (KeyError('mu'), ['reading b'], 'while reading b: mu (KeyError)'),
        (MemoryError(), ['drawing'], 'while drawing: MemoryError'),
        (RuntimeError('\n Out of memory.\nAt:\n 0x1'), [], 'Out of memory (RuntimeError)'),
        (RuntimeError('Errors in X:\n\tno a\n\tno b'), [], 'Errors in X: no a (RuntimeError)'),
        (from_worker(OSError('no a')), [], 'while reading 1.png: no a (OSError)'),
        (from_worker(KeyError('mu')), ['training'], "while reading 1.png: 'mu' (KeyError)"),
    ],
)
def test_errors_end_in_one_line(end, error, scopes, line):
    tail = '' if line.endswith('.') else '. --debug shows the traceback.'
    assert end(failing(error, *scopes)) == (1, f'error: {line}{tail}\n')


def test_a_bar_that_is_cut_short_ends_its_line(end):
    def main():
        bar = tqdm(total=3)
        bar.update()
        raise InputError('No.')

    assert end(main)[1].endswith('\nerror: No.\n')


def test_a_long_message_is_cut(end):
    status, said = end(failing(ValueError('word ' * 1000)))
    assert (status, len(said) < 500) == (1, True)


def test_debug_shows_the_traceback(end, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['command', '--debug'])
    _, said = end(failing(ZeroDivisionError('no'), 'dividing'))
    assert said.startswith('Traceback')
    assert said.endswith('while dividing\nerror: while dividing: no (ZeroDivisionError).\n')


def test_a_run_has_the_traceback_in_its_log(end, monkeypatch, tmp_path):
    logger = logging.Logger('run')
    logger.addHandler(logging.FileHandler(tmp_path / 'run.log'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    _, said = end(failing(ZeroDivisionError('no')))
    assert said == f'error: no (ZeroDivisionError). The traceback is in {tmp_path}/run.log.\n'
    assert (tmp_path / 'run.log').read_text().startswith('Traceback')
    # On a disk that is full it cannot be.
    logger.handlers[0].baseFilename = '/dev/full'
    assert end(failing(ValueError()))[1] == 'error: ValueError. --debug shows the traceback.\n'


def test_other_processes_say_their_words_alone(end, monkeypatch):
    monkeypatch.setenv('RANK', '3')
    said = 'error: process 3: while a: no (ValueError).\n'
    assert end(failing(ValueError('no'), 'a')) == (1, said)
    assert end(failing(Stopped(signal.SIGTERM))) == (143, '')


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals(end, number, status):
    assert end(lambda: os.kill(os.getpid(), number)) == (status, f'stopped by {number.name}.\n')
    # A second one ends the process.
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_was_saved_is_said(end):
    said = 'iter_5.pth is saved: go on by --resume.'
    assert end(failing(Stopped(said=said))) == (130, f'stopped by SIGINT: {said}\n')


def test_nohup_is_heeded(end):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert end(lambda: os.kill(os.getpid(), signal.SIGHUP)) == (0, '')


def test_forked_workers_end_in_silence(end):
    def main():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitpid(child, 0)[1] == 0

    assert end(main) == (0, '')


@pytest.mark.parametrize('length', [1, 10**6])
def test_a_reader_that_has_gone(end, monkeypatch, length):
    reader, writer = os.pipe()
    with open(writer, 'w') as output:
        monkeypatch.setattr(sys, 'stdout', output)
        # Another pipe is another matter.
        assert end(failing(BrokenPipeError(32, 'Broken pipe')))[0] == 1
        os.close(reader)
        assert end(lambda: print('a' * length)) == (141, '')
