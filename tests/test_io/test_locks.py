"""Locks: one command at a time, and none that outlives its processes."""

import os
import signal
import subprocess
import sys

import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.io.locks import Lock


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'new' / 'a.lock'


def test_the_second_is_told_who_has_it_and_the_next_gets_it(path):
    with Lock(path, 'a.npz'):
        match = rf'a\.npz .* process {os.getpid()} on '
        with pytest.raises(InputError, match=match), Lock(path, 'a.npz'):
            pass
        assert path.exists()  # refused, it has not taken the file away
    assert not path.exists()
    with Lock(path, 'a.npz'):
        pass


def test_an_error_frees_it(path):
    with pytest.raises(KeyboardInterrupt), Lock(path, 'a.npz'):
        raise KeyboardInterrupt
    assert not path.exists()


def test_a_killed_process_and_its_children_block_nobody(path):
    """Its file stays, and so does a child, as a data loader's worker does for seconds."""
    child = os.fork()
    if child == 0:
        with Lock(path, 'a.npz'):
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            path.with_name('child').write_text(str(os.getpid()))
            signal.pause()
    os.waitpid(child, 0)
    while not (grandchild := path.with_name('child')).exists() or not grandchild.read_text():
        pass
    try:
        assert path.exists()
        with Lock(path, 'a.npz'):
            assert path.read_text().startswith(f'process {os.getpid()} on ')
        assert not path.exists()
    finally:
        os.kill(int(grandchild.read_text()), signal.SIGKILL)


def test_programs_that_are_started_do_not_hold_it(path):
    with Lock(path, 'a.npz'):
        program = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    with program, Lock(path, 'a.npz'):
        program.stdin.close()


def test_processes_of_one_command_share_it(path, monkeypatch):
    """Who is left of them after an error keeps others away."""
    rank = 0
    monkeypatch.setattr('mmagic_cm.io.locks.is_main_process', lambda: rank == 0)

    def assert_refused():
        match = r'a\.npz .* process .*, process '
        with pytest.raises(InputError, match=match), Lock(path, 'a.npz'):
            pass

    main = Lock(path, 'a.npz').__enter__()
    main.share()
    rank = 1
    other = Lock(path, 'a.npz').__enter__()
    other.share()
    rank = 0
    assert_refused()
    main.__exit__(KeyboardInterrupt)
    assert_refused()
    rank = 1
    other.__exit__(None)
    rank = 0
    with Lock(path, 'a.npz'):
        pass
    assert not path.exists()
