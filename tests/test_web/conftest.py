"""A work directory with a run in it, and the page that serves it."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio_client
import httpx
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmagic_cm.models import ConsistencyModel
from mmagic_cm.web.gate import API
from mmagic_cm.web.models import Shelf
from mmagic_cm.web.server import serve

PATIENCE = 180  # seconds


def write_checkpoint(model: ConsistencyModel, config: dict, path: Path, **meta) -> Path:
    """As a training run leaves it: with its config, and the names of its classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(cfg=Config(dict(model=config)).pretty_text, **meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='module')
def work_dirs(tiny_work_dirs) -> Path:
    """What the page serves."""
    return tiny_work_dirs


@pytest.fixture(scope='module')
def tiny_work_dirs(tmp_path_factory, tiny_config, build_model) -> Path:
    """Holds the run 'digits' with a checkpoint, a log and a sample grid."""
    folder = tmp_path_factory.mktemp('work') / 'work_dirs'
    classes = dict(classes=tuple('0123456789'))
    path = folder / 'digits' / 'iter_2.pth'
    write_checkpoint(build_model(), tiny_config(), path, dataset_meta=classes)
    log = folder / 'digits' / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(json.dumps(dict(step=k, loss=1 / k, lr=1e-3)) for k in (1, 2)))
    (folder / 'digits' / 'samples').mkdir()
    picture = Image.fromarray(np.full((16, 16, 3), 99, np.uint8))
    picture.save(folder / 'digits' / 'samples' / 'iter_2.png')
    (folder / 'digits' / 'tiny.py').write_text(f'model = {tiny_config()!r}\n')
    return folder


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    """An empty cache, and none of what this machine has downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('MMAGIC_CM_CACHE', str(folder))
        yield folder


def free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(('127.0.0.1', 0))
        return any_free.getsockname()[1]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(scope='module')
def page(work_dirs, tmp_path_factory):
    """The page, served in this process, with a client of its API."""
    shelf = Shelf([work_dirs], 'cpu')
    with serve(shelf, port=free_port()) as served:
        downloads = tmp_path_factory.mktemp('downloads')
        caller = gradio_client.Client(
            served.local_url, verbose=False, download_files=str(downloads)
        )
        # An answer that never comes is a failure of one test, not the end of all.
        caller.predict = lambda *a, **k: caller.submit(*a, **k).result(timeout=PATIENCE)
        yield SimpleNamespace(
            blocks=served,
            url=served.local_url.rstrip('/'),
            client=caller,
            shelf=shelf,
            folder=Path(os.environ['GRADIO_TEMP_DIR']).parent,
        )


@pytest.fixture(scope='module')
def web(page) -> Iterator[httpx.Client]:
    """A client without manners."""
    with httpx.Client(base_url=page.url + API, timeout=60) as client:
        yield client


@pytest.fixture(scope='module')
def ask(page, web) -> Callable[..., Iterator[dict]]:
    """Queue an event of the page, by name or number, and get what comes of it, message by message.

    Keywords go into the request; the last message says how it ended.
    """
    numbers = {name: i for i, fn in page.blocks.fns.items() for name in (fn.name, fn.api_name)}

    def messages(
        event: str | int, data: list, headers: dict | None = None, **more
    ) -> Iterator[dict]:
        body = dict(data=data, fn_index=numbers.get(event, event), **more)
        body.setdefault('session_hash', os.urandom(6).hex())
        asked = web.post('/queue/join', json=body, headers=headers)
        if asked.status_code != 200:
            yield dict(msg='refused', status=asked.status_code)
            return
        params = dict(session_hash=body['session_hash'])
        with web.stream('GET', '/queue/data', params=params) as stream:
            end = time.monotonic() + PATIENCE
            for line in stream.iter_lines():
                assert time.monotonic() < end, f'{event} was not answered'
                message = json.loads(line.removeprefix('data:') or '{}')
                if message and message['msg'] != 'close_stream':
                    yield message

    return messages
