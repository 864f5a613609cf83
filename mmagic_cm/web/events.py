"""What every button of the page needs: errors as sentences, progress, and a way to stop."""

import functools
import html
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import torch

from ..errors import InputError
from ..models.consistency_model import ConsistencyModel

logger = logging.getLogger(__name__)
MAX_WAITING = 1000  # requests, each of which is small
SECONDS_TO_COME = 10.0  # from the begin of a job until its client must listen
QUIET = dict(api_name=False, show_progress='hidden')  # events of the page that take no time
SORRY = 'Something went wrong that is not your fault; the log of the server says what.'


def said(error: InputError) -> str:
    """What an error says, for Gradio, which shows messages as HTML."""
    return html.escape(str(error), quote=False)


@contextmanager
def sentences(what: str) -> Iterator[None]:
    """Let work for the page end in one sentence, whatever happens.

    An :class:`InputError` is shown as it is; a traceback goes to the log, never to the browser.
    """
    try:
        yield
    except gr.Error:
        raise
    except InputError as error:
        raise gr.Error(said(error), duration=None, print_exception=False) from error
    except torch.cuda.OutOfMemoryError as error:
        raise gr.Error(
            'The GPU has not enough memory for this: take fewer images at a time.',
            print_exception=False,
        ) from error
    except Exception as error:
        logger.exception('%s failed', what)
        raise gr.Error(SORRY, duration=None, print_exception=False) from error


def readable(function: Callable) -> Callable:
    """A function of the page that ends in :func:`sentences`."""

    @functools.wraps(function)
    def shown(*args: Any, **kwargs: Any) -> Any:
        with sentences(function.__name__):
            return function(*args, **kwargs)

    return shown


class Stopped(Exception):  # noqa: N818 - no error: somebody wished it
    """The user has pressed Stop, or is gone."""


class Listeners:
    """The sessions whose client waits for answers: those with an open stream of events."""

    def __init__(self) -> None:
        self._streams: Counter[str] = Counter()
        self._is_closed = False

    @contextmanager
    def listening(self, session: str | None) -> Iterator[None]:
        """While a stream is open; None: it is no stream."""
        self._streams[session] += 1
        try:
            yield
        finally:
            self._streams[session] -= 1
            if not self._streams[session]:
                del self._streams[session]

    def close(self) -> None:
        """The page ends: nobody is there from now on."""
        self._is_closed = True

    def is_gone(self, session: str, begin: float) -> bool:
        """Whether nobody waits for work that has begun then (``time.monotonic()``)."""
        late = time.monotonic() - begin > SECONDS_TO_COME
        return self._is_closed or (late and session not in self._streams)


class Jobs:
    """The long work behind one button: a job a session of a browser, which can be stopped.

    A job is announced when the button is pressed, and runs when its turn has come: Stop reaches it
    in between, too. That of a client who has gone is stopped.

    Args:
        listeners: Who is there.
    """

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._flags: OrderedDict[str, threading.Event] = OrderedDict()

    def announce(self, request: gr.Request) -> gr.Button:
        """The session has asked for a job, and cannot ask for another meanwhile."""
        self._flags[request.session_hash] = threading.Event()
        if len(self._flags) > MAX_WAITING:  # somebody has left while waiting
            self._flags.popitem(last=False)
        return gr.Button(interactive=False)

    def stop(self, request: gr.Request) -> None:
        """End the session's job before its next network evaluation."""
        flag = self._flags.get(request.session_hash)
        if flag is not None:
            flag.set()

    @contextmanager
    def running(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """Run the session's job; yields what says whether it is to stop."""
        session, begin = request.session_hash, time.monotonic()
        flag = self._flags.setdefault(session, threading.Event())
        try:
            yield lambda: flag.is_set() or self._listeners.is_gone(session, begin)
        finally:
            self._flags.pop(session, None)

    def wire(
        self,
        run: gr.Button,
        stop: gr.Button,
        function: Callable,
        inputs: list,
        outputs: list,
        api_name: str,
    ) -> None:
        """Let ``run`` call a function, one user at a time, and ``stop`` end it.

        All such functions share one queue, since they share the models.
        """
        asked = run.click(self.announce, None, run, **QUIET)
        done = asked.then(
            readable(function), inputs, outputs, api_name=api_name, concurrency_id='models'
        )
        done.then(lambda: gr.Button(interactive=True), None, run, **QUIET)
        stop.click(self.stop, show_progress='hidden', api_name=f'stop_{api_name}')


class Watch:
    """Looks on while a model works: counts its evaluations, reports them, and stops it.

    Attributes:
        evaluations: Images that went through the network, each evaluation counted.
        seconds: Time spent watching.
    """

    def __init__(
        self,
        model: ConsistencyModel,
        is_stopped: Callable[[], bool],
        report: Callable[[int], None],
    ) -> None:
        self._model = model
        self._is_stopped = is_stopped
        self._report = report
        self.evaluations = 0
        self.seconds = 0.0

    def __enter__(self) -> 'Watch':
        """Look on from here."""
        self._hook = self._model.denoiser.register_forward_pre_hook(self._look, with_kwargs=True)
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        """Look away."""
        self.seconds = time.perf_counter() - self._begin
        self._hook.remove()

    def _look(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        if self._is_stopped():
            raise Stopped
        self._report(self.evaluations)
        self.evaluations += len(args[0] if args else kwargs['x'])
