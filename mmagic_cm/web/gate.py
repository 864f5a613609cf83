"""What a request may say: the one place where it is judged, before Gradio or a tab acts on it."""

import math
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse

from ..errors import InputError
from ..io.images import open_image
from .events import Listeners, sentences

API = '/gradio_api'
MAX_UPLOAD = 20 * 2**20  # bytes of a file
MAX_REQUEST = 2**17  # bytes of any other request, which holds names and numbers
MAX_PIXELS = 4096**2  # of a picture
MAX_PICTURES = 4  # in a request: of the editor background, paint and both; and a second one
# Gradio's page names a script of another host; a browser that is told this fetches none.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'"
)


class Page(gr.Blocks):
    """Blocks whose controls are limits of the server, too.

    Numbers lie within their slider, texts and lists are as long as theirs may be, and a picture is
    one that was uploaded, whatever the request says.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list, state: Any, explicit_call: bool = False
    ) -> list:
        """Refuse what does not fit, then let Gradio read the pictures."""
        with sentences('reading a request'):
            files = [file for value in inputs for file in _files_in(value)]
            if len(files) > MAX_PICTURES:
                raise InputError(f'A request holds at most {MAX_PICTURES} pictures.')
            for file in files:
                _check_picture(file)
            for control, value in zip(block_fn.inputs, inputs, strict=False):
                _check_size(control, value)
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def _check_size(control: gr.components.Component, value: Any) -> None:
    """Hold a value against the bounds of its control."""
    if isinstance(control, gr.Slider) or (isinstance(control, gr.Number) and value is not None):
        low = -math.inf if control.minimum is None else control.minimum
        high = math.inf if control.maximum is None else control.maximum
        # Not a number is not between any two.
        if not (isinstance(value, int | float) and low <= value <= high):
            raise InputError(
                f'{control.label}: a number from {low} to {high}, not {reprlib.repr(value)}.'
            )
    elif isinstance(control, gr.Textbox | gr.Dropdown):
        most = getattr(control, 'max_length', None) or getattr(control, 'max_choices', None)
        if most is not None and value is not None and len(value) > most:
            raise InputError(f'{control.label}: at most {most}, not {len(value)}.')


def _files_in(value: Any) -> Iterator[dict]:
    """Whatever names a file, however deep in a value of JSON."""
    if isinstance(value, dict):
        if 'path' in value or 'url' in value:
            yield value
        value = [*value.values()]
    if isinstance(value, list):
        for part in value:
            yield from _files_in(part)


def _check_picture(file: dict) -> None:
    """Refuse all but a picture of a modest size among the uploads, by its header.

    Gradio itself looks at a path only where its form is that of an upload, and decodes whatever
    Pillow knows.
    """
    path, inside = str(file.get('path')), Path(get_upload_folder()).resolve()
    if not Path(path).resolve().is_relative_to(inside) or str(file.get('url')).startswith('data:'):
        raise InputError('A picture must be uploaded to this page.')
    with open_image(path, Path(path).name) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(f'{width} x {height} pixels are more than {MAX_PIXELS:,}')
        picture.load()


class Gate:
    """Middleware: refuses requests by their heads, and knows who listens.

    Args:
        app: Gradio's.
        listeners: Told of the open streams of events.
    """

    def __init__(self, app: Callable, listeners: Listeners) -> None:
        self._app = app
        self._listeners = listeners

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answer a request, with ``POLICY`` in the answer."""
        if scope['type'] == 'websocket':  # for video and sound, of which there is none
            await send({'type': 'websocket.close'})
            return
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return

        async def send_with_policy(message: dict) -> None:
            if message['type'] == 'http.response.start':
                header = (b'content-security-policy', POLICY.encode())
                message = {**message, 'headers': [*message['headers'], header]}
            await send(message)

        answer = _refusal(scope) or self._app
        with self._listeners.listening(_session_of(scope)):
            await answer(scope, receive, send_with_policy)


def _refusal(scope: dict) -> PlainTextResponse | None:
    headers, path = Headers(scope=scope), scope['path']
    origin = headers.get('origin')
    if origin is not None and urlsplit(origin).netloc != headers.get('host'):
        return PlainTextResponse('This page takes no requests from other sites.', 403)
    # Of Gradio's components: the editor's would keep pictures of any size in memory, unused here.
    if path.startswith(f'{API}/component_server'):
        return PlainTextResponse('This page has no such thing.', 404)
    if scope['method'] == 'POST':
        # The form around a file needs some bytes, too.
        most = MAX_UPLOAD + MAX_REQUEST if path == f'{API}/upload' else MAX_REQUEST
        length = headers.get('content-length')
        if length is None or int(length) > most:
            return PlainTextResponse('A request of this size exceeds what the page takes.', 413)
    return None


def _session_of(scope: dict) -> str | None:
    """Whose stream of events is asked for, if it is one."""
    path = scope['path']
    if path == f'{API}/queue/data':
        return QueryParams(scope['query_string']).get('session_hash')
    if path.startswith(f'{API}/call/') and scope['method'] == 'GET':
        return path.rsplit('/', 1)[1]
    return None
