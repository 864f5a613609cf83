"""What every button of the page needs: errors as sentences, progress, and a way to stop."""

import functools
import html
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import torch

from ..errors import InputError
from ..models.consistency_model import ConsistencyModel

logger = logging.getLogger(__name__)
SORRY = 'Something went wrong that is not your fault; the log of the server says what.'


def readable(function: Callable) -> Callable:
    """Let a function of the page end in one sentence, whatever happens.

    An :class:`InputError` is shown as it is; a traceback goes to the log, never to the browser.
    """

    @functools.wraps(function)
    def shown(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except InputError as error:
            # Gradio shows messages as HTML.
            text = html.escape(str(error), quote=False)
            raise gr.Error(text, duration=None, print_exception=False) from error
        except torch.cuda.OutOfMemoryError as error:
            raise gr.Error(
                'The GPU has not enough memory for this: take fewer images at a time.',
                print_exception=False,
            ) from error
        except Exception as error:
            logger.exception('%s failed', function.__name__)
            raise gr.Error(SORRY, duration=None, print_exception=False) from error

    return shown


class Stopped(Exception):  # noqa: N818 - no error: somebody wished it
    """The user has pressed Stop."""


class Jobs:
    """The long work behind one button: a job a session of a browser, which can be stopped.

    A job is announced when the button is pressed, and runs when its turn has come: Stop reaches it
    in between, too.
    """

    def __init__(self) -> None:
        self._flags: dict[str | None, threading.Event] = {}

    def announce(self, request: gr.Request) -> None:
        """The session has asked for a job."""
        self._flags[request.session_hash] = threading.Event()

    def stop(self, request: gr.Request) -> None:
        """End the session's job before its next network evaluation."""
        flag = self._flags.get(request.session_hash)
        if flag is not None:
            flag.set()

    @contextmanager
    def running(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """Run the session's job; yields what says whether it is to stop."""
        session = request.session_hash
        flag = self._flags.setdefault(session, threading.Event())
        try:
            yield flag.is_set
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
        asked = run.click(self.announce, queue=False, api_name=False)
        asked.then(lambda: gr.Button(interactive=False), None, run, queue=False, api_name=False)
        done = asked.then(
            readable(function), inputs, outputs, api_name=api_name, concurrency_id='models'
        )
        done.then(lambda: gr.Button(interactive=True), None, run, queue=False, api_name=False)
        stop.click(self.stop, queue=False, api_name=f'stop_{api_name}')


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
