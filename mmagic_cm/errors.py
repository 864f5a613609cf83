"""What a user got wrong, said in one sentence (rule 8 of the house)."""

import difflib
import sys
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do.

    The command lines print it without a traceback; every other exception is a defect of ours and
    keeps its traceback.
    """


def closest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the closest match and all known names."""
    known = sorted(known)
    match = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f' Did you mean {match[0]!r}?' if match else ''
    return f'{hint} Known: {", ".join(known)}.'


def run_cli(main: Callable[[], None]) -> None:
    """Run a command line: an :class:`InputError` is printed as one sentence, with exit code 1."""
    try:
        main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
