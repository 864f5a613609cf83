"""What ends a command: bad input, bad luck, a signal; each in one line (rule 8 of the house)."""

import difflib
import logging
import os
import select
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

    A sentence of ours as it is; anything else with what was being done (see :func:`doing`), the
    words of whoever raised it, and where its traceback is: in the log of a run, or shown by
    ``--debug``. Of several processes the first one says it, the others say their words alone.

    Exit status 1 for an error, 128 and the signal's number for a signal (130, 143, 129), 141 where
    nobody reads on (``| head``).
    """
    for number in _SIGNALS[1:]:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _stopper(os.getpid()))
    # A full disk costs lines of a log, not a traceback on the screen for each of them.
    logging.raiseExceptions = False
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        for number in _SIGNALS:  # a second Ctrl-C ends what is slow to end
            signal.signal(number, signal.SIG_DFL)
        _end_bars()
        stopped = error if isinstance(error, Stopped) else Stopped()
        said = f': {stopped.said}' if stopped.said else '.'
        if _rank() == 0:
            print(f'stopped by {stopped.number.name}{said}', file=sys.stderr)
        sys.exit(128 + stopped.number)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + signal.SIGPIPE)
        _end_bars()
        debug = '--debug' in sys.argv
        if debug:
            traceback.print_exception(error)
        ours, said = describe(error)
        if _rank():
            said = f'process {_rank()}: {said}'
        elif not ours and not debug:
            log = _log(error)
            said += f' The traceback is in {log}.' if log else ' --debug shows the traceback.'
        print(f'error: {said}', file=sys.stderr)
        sys.exit(1)


def describe(error: Exception) -> tuple[bool, str]:
    """Whether an error is an :class:`InputError`, and one line about it."""
    kind, text, notes = type(error).__name__, str(error), getattr(error, '__notes__', [])
    if text.startswith('Caught ') and 'Original Traceback' in text:
        # Of a DataLoader's worker: a whole traceback, whose last part begins with type and words.
        last = text.rpartition('Traceback (most recent call last):\n')[2]
        first, *notes = [line for line in last.splitlines() if line.strip() and line[0] != ' ']
        name, _, text = first.partition(': ')
        kind = name.rpartition('.')[2]
    elif isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # not its repr
    elif isinstance(error, OSError) and error.strerror:
        text = ': '.join(map(str, filter(None, [error.strerror, error.filename])))
    if isinstance(error, InputError):
        return True, text
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ['']
    while len(lines) > 1 and lines[0].endswith(':'):
        lines[:2] = [' '.join(lines[:2])]
    words = textwrap.shorten(lines[0], 400, placeholder=' ...').rstrip('.')
    doing = next((f'{note}: ' for note in notes if note.startswith('while ')), '')
    return False, doing + (f'{words} ({kind}).' if words else f'{kind}.')


def _stopper(parent: int) -> Callable:
    """A handler of signals for a process, and for those that it forks."""

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != parent:
            os._exit(0)  # a worker: the process that started it says what there is to say
        # Workers that end by the same signal are no errors.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        raise Stopped(number)

    return stop


def _rank() -> int:
    """The number of this process among those of a launcher."""
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0)


def _log(error: Exception) -> str | None:
    """Write the traceback into the log of the run; its path, or None where there is none."""
    from mmengine.logging import MMLogger  # imports torch: not before a command has to

    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            try:
                with open(handler.baseFilename, 'a') as file:
                    traceback.print_exception(error, file=file)
            except OSError:  # a full disk: the screen is left
                return None
            return handler.baseFilename
    return None


def _end_bars() -> None:
    """End the lines of progress bars that were cut short."""
    if 'tqdm' in sys.modules:
        for bar in [*getattr(sys.modules['tqdm'].tqdm, '_instances', ())]:
            bar.close()


def _nobody_reads() -> bool:
    """Whether what reads our output has gone; then nothing is written to it any more."""
    output = select.poll()
    output.register(sys.stdout, 0)
    if not output.poll(0):  # it tells of errors alone
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
