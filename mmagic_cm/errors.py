"""What ends a command: bad input, bad luck, a signal; each in one line (rule 8 of the house)."""

import difflib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do.

    The command lines print it without a traceback.
    """


class Stopped(KeyboardInterrupt):
    """Somebody asked the process to end: Ctrl-C, SIGTERM or SIGHUP.

    Args:
        number: Of the signal.
        said: What was saved and how to go on; empty where there is nothing to say.
    """

    def __init__(self, number: int = signal.SIGINT, said: str = '') -> None:
        super().__init__(said)
        self.number = signal.Signals(number)
        self.said = said


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name what is being done, such as 'writing out.npz'.

    Whatever goes wrong inside keeps its type and gets the note 'while ...', which
    :func:`run_cli` reads: the reasons of a machine or of a library need no guard of their own.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        error.add_note(f'while {what}')
        raise


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the closest match and all known names."""
    known = sorted(known)
    match = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f' Did you mean {match[0]!r}?' if match else ''
    return f'{hint} Known: {", ".join(known)}.'


def run_cli(main: Callable[[], None]) -> None:
    """Run a command line: what ends it early is said in one line.

    Exit status 1 for an error, 128 and the signal's number for a signal (130, 143, 129).
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped()
        said = f': {stopped.said}' if stopped.said else '.'
        print(f'stopped by {stopped.number.name}{said}', file=sys.stderr)
        sys.exit(128 + stopped.number)


def _stop(number: int, _frame: object) -> NoReturn:
    raise Stopped(number)
