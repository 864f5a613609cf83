"""Serves the page, from this machine and to it unless told otherwise."""

import functools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client import utils as client_utils
from starlette.middleware import Middleware

from ..errors import InputError
from .events import Listeners
from .gate import MAX_UPLOAD, Gate
from .models import Shelf
from .outputs import Outputs
from .page import build_page

LOCALHOST = '127.0.0.1'
MAX_SESSIONS = 1000  # that are remembered, with what each was offered


@contextmanager
def serve(shelf: Shelf, host: str = LOCALHOST, port: int | None = None) -> Iterator[gr.Blocks]:
    """Serve the page until the block ends; nothing is fetched or sent elsewhere.

    What the page writes and what is uploaded to it lies in one temporary folder, the only one of
    which it serves files; it is removed at the end.

    Args:
        shelf: The models.
        host: Where to listen: this machine alone, or '0.0.0.0' for all that can reach it.
        port: Default: the first free one from 7860 on; 0: any free one.

    Yields:
        The page, whose ``local_url`` says where it is.

    Raises:
        InputError: The port is taken, or there is no such port.
    """
    _read_open_schemas()
    with tempfile.TemporaryDirectory(prefix='mmagic_cm_web_') as folder, _files_in(Path(folder)):
        listeners = Listeners()
        page = build_page(shelf, Outputs(Path(folder) / 'served' / 'results'), listeners)
        try:
            socket.getaddrinfo(host, port)  # Gradio tries a host that nobody knows for minutes
            page.launch(
                server_name=host,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                allowed_paths=[],
                max_file_size=MAX_UPLOAD,
                ssr_mode=False,
                enable_monitoring=False,
                state_session_capacity=MAX_SESSIONS,
                app_kwargs=dict(middleware=[Middleware(Gate, listeners=listeners)]),
            )
        except (OSError, OverflowError) as error:
            raise InputError(f'The page cannot listen on {host}:{port}: {error}') from error
        try:
            yield page
        finally:
            listeners.close()
            page.close(verbose=False)


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Let Gradio keep its files there, which it reads from the environment whenever it writes."""
    values = {
        'GRADIO_TEMP_DIR': str(folder / 'served'),
        'GRADIO_EXAMPLES_CACHE': str(folder / 'examples'),
        'GRADIO_ANALYTICS_ENABLED': 'False',
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _read_open_schemas() -> None:
    """Let Gradio 5.11, which MMagic's huggingface_hub holds back, run beside pydantic from 2.11 on.

    Where the schema of a file says ``additionalProperties: true``, which is what leaving it out
    means, Gradio's description of its API fails, and the page with it.
    """
    upstream = client_utils._json_schema_to_python_type
    if hasattr(upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def convert(schema: Any, defs: Any) -> str:
        if isinstance(schema, dict) and schema.get('additionalProperties') is True:
            schema = {key: schema[key] for key in schema if key != 'additionalProperties'}
        return upstream(schema, defs)

    client_utils._json_schema_to_python_type = convert
