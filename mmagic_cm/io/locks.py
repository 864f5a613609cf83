"""One command at a time on a work directory, a set of samples, a converted data set."""

import fcntl
import os
import socket
from pathlib import Path

from mmengine.dist import barrier, is_main_process

from ..errors import InputError
from .files import writing

_held: set[int] = set()


def _let_go() -> None:
    """In a forked process, such as a data loader's: do not hold what a killed parent held."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


class Lock:
    """A file on which ``flock`` is held, as a context manager.

    The lock ends with its processes, however they end: the file that a killed one leaves behind
    is in nobody's way. Of several processes of one command the main one takes it; to all of them
    it belongs after :meth:`share`.

    Args:
        path: The file; it is made, and in the end removed.
        what: What nobody else may write, for the sentence.

    Raises:
        InputError: On entering, another command has it.
    """

    def __init__(self, path: str | Path, what: str | Path) -> None:
        self._path = Path(path)
        self._what = what
        self._file: int | None = None

    def __enter__(self) -> 'Lock':
        if is_main_process():
            self._take(fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if self._file is None:
            return
        # After an error the others may still be writing: the lock is theirs then.
        if is_main_process() and (kind is None or self._alone()):
            self._path.unlink(missing_ok=True)
        self._close(self._file)

    def share(self) -> None:
        """Let the other processes of this command have it, too; to be called in all of them."""
        if is_main_process():
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        barrier()
        if not is_main_process():
            self._take(fcntl.LOCK_SH)

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _take(self, kind: int) -> None:
        with writing(self._path):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        _held.add(file)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            who = ', '.join(os.pread(file, 4096, 0).decode().splitlines()) or 'another command'
            self._close(file)
            raise InputError(
                f'{self._what} is being written by {who}: wait until that has ended, or stop it.'
            ) from None
        if os.fstat(file).st_nlink == 0:  # its last holder has just removed it
            self._close(file)
            return self._take(kind)
        if kind == fcntl.LOCK_EX:
            os.ftruncate(file, 0)
        os.write(file, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
        self._file = file

    @staticmethod
    def _close(file: int) -> None:
        _held.discard(file)
        os.close(file)
