"""What a request may say: no path of the server, no number beyond its slider, no large picture."""

import asyncio
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image

from mmagic_cm.web import events
from mmagic_cm.web.gate import API, MAX_PIXELS

META = dict(meta={'_type': 'gradio.FileData'})
ELSEWHERE = dict(Origin='https://elsewhere.example')
SHAPES = {
    'text': lambda path: path,
    'path': lambda path: dict(path=path),
    'file': lambda path: dict(path=path, **META),
    'other file': lambda path: dict(path=path, meta={'_type': 'other'}, orig_name='a.png'),
    'stream': lambda path: dict(path=path, is_stream=True, url=f'{API}/file={path}', **META),
    'gallery': lambda path: [dict(image=dict(path=path), caption=None)],
    'pairs': lambda path: [[dict(path=path), 'a']],
    'files': lambda path: [dict(image=dict(path=path, **META))],
    'video': lambda path: [dict(video=dict(path=path))],
    'editor': lambda path: dict(background=dict(path=path), layers=[], composite=None),
    'editor file': lambda path: dict(background=dict(path=path, **META), layers=[], composite=None),
    'layers': lambda path: dict(background=None, layers=[dict(path=path, **META)], composite=None),
    'address': lambda path: dict(path=f'file://{path}', url=f'file://{path}', **META),
    'data': lambda path: dict(path=None, url='data:image/png;base64,AAAA'),
}


def png(*size: int, picture: Image.Image | None = None) -> bytes:
    file = io.BytesIO()
    (picture or Image.effect_noise(size, 50)).save(file, 'png')
    return file.getvalue()


@pytest.fixture(scope='module')
def web(page) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page.url + API, timeout=60) as client:
        yield client


def upload(web: httpx.Client, content: bytes, name: str = 'a.png') -> dict:
    """As the browser does, which then names the file in a request."""
    [path] = web.post('/upload', files=dict(files=(name, content))).json()
    return dict(path=path, orig_name=name, url=f'{web.base_url}file={path}', **META)


def event(
    web: httpx.Client, index: int, data: list, headers: dict | None = None, **more
) -> Iterator[dict]:
    """Queue an event of the page, and yield what comes of it."""
    session = os.urandom(6).hex()
    body = dict(data=data, fn_index=index, session_hash=session, **more)
    asked = web.post('/queue/join', json=body, headers=headers)
    if asked.status_code != 200:
        yield dict(status=asked.status_code)
        return
    with web.stream('GET', '/queue/data', params=dict(session_hash=session)) as stream:
        for line in stream.iter_lines():
            if line.startswith('data:'):
                yield json.loads(line.removeprefix('data:'))


def index_of(page, name: str) -> int:
    return next(i for i, fn in page.blocks.fns.items() if fn.api_name == name or fn.name == name)


def preprocess(page, function, values: list) -> list:
    """What Gradio does with the values of a request before it calls a function."""

    async def ask() -> list:
        return await page.blocks.preprocess_data(function, values, None)

    return asyncio.run(ask())


@pytest.fixture
def secret(tmp_path, monkeypatch) -> Iterator[tuple[Path, list]]:
    """A picture that nobody else may read, and the names of all files that are opened."""
    path = tmp_path / 'secret.png'
    path.write_bytes(png(37, 41))
    path.chmod(0o600)
    opened: list = []
    upstream = io.open

    def spy(file, *args, **kwargs):
        opened.append(str(file))
        return upstream(file, *args, **kwargs)

    for module in ('builtins', 'io'):
        monkeypatch.setattr(f'{module}.open', spy)
    return path, opened


@pytest.mark.parametrize('shape', SHAPES)
def test_no_control_opens_a_path_that_a_request_brings(page, secret, shape):
    path, opened = secret
    value = SHAPES[shape](str(path))
    tried = 0
    for function in page.blocks.fns.values():
        for i, control in enumerate(function.inputs):
            if isinstance(control, gr.State):  # of the server: what a request says is not read
                continue
            values = [getattr(other, 'value', None) for other in function.inputs]
            values[i] = value
            tried += 1
            if isinstance(value, str):  # is looked up, or refused by a component
                try:
                    preprocess(page, function, values)
                except Exception:
                    continue
            else:
                with pytest.raises(gr.Error, match='must be uploaded'):
                    preprocess(page, function, values)
    assert tried > 40
    assert str(path) not in opened


def test_no_endpoint_answers_with_a_picture_of_the_server(page, web, secret):
    """Each, asked over the network, from another site, too."""
    path, opened = secret
    gallery, editor = SHAPES['gallery'](str(path)), SHAPES['editor'](str(path))
    for index, function in page.blocks.fns.items():
        values = [
            editor if isinstance(control, gr.ImageEditor) else gallery
            for control in function.inputs
        ]
        data = dict(index=0, value=SHAPES['path'](str(path)))
        assert [*event(web, index, values, ELSEWHERE, event_data=data)] == [dict(status=403)]
        last = [*event(web, index, values, event_data=data)][-2]  # the last one closes the stream
        assert last['msg'] == 'process_completed'
        assert not last['success'] or not values
        body = dict(data=values, fn_index=index, event_data=data, session_hash='me')
        for way in ('run', 'api'):
            assert web.post(f'/{way}/predict', json=body).status_code == 404
    assert str(path) not in opened


def test_what_was_drawn_is_picked_by_its_number(page, web):
    """The pictures and their names stay on the server."""
    from gradio_client import Client

    client = Client(page.url, verbose=False, download_files=False)

    def ask(name: str, data: list, index: int | None = None) -> list:
        body = dict(data=data, fn_index=index_of(page, name), session_hash=client.session_hash)
        body['event_data'] = dict(index=index, value=None)
        web.post('/queue/join', json=body)
        params = dict(session_hash=client.session_hash)
        lines = web.get('/queue/data', params=params).text.splitlines()
        [done] = [line for line in lines if 'process_completed' in line]
        return json.loads(done.removeprefix('data:'))['output']

    def sum_of(answer: dict) -> int:
        with Image.open(answer['data'][0]['background']['path']) as picture:
            return np.asarray(picture)[::40, ::40].astype(int).sum()

    digit = sum_of(ask('_picked', [None], 3))
    assert 'Nothing was drawn yet' in ask('_offered', [None])['error']
    _, _, _, npz, *_ = client.predict(num_images=4, api_name='/generate')
    with np.load(npz['path'] if isinstance(npz, dict) else npz) as arrays:
        images = arrays['arr_0']
    shown, state = ask('_offered', [None])['data']
    assert len(shown) == 4
    assert state is None
    assert sum_of(ask('_picked', [None], 3)) == 3 * images[3].astype(int).sum() != digit
    for index in ('a', 4, None, {}):
        assert 'not your fault' in ask('_picked', [None], index)['error']


@pytest.mark.parametrize('value', [1e16, -1, 10**30, float('nan'), float('inf'), 'x', [1], {}])
def test_every_number_is_bounded(page, value):
    tried = 0
    for function in page.blocks.fns.values():
        for i, control in enumerate(function.inputs):
            if isinstance(control, gr.Slider | gr.Number):
                values = [getattr(other, 'value', None) for other in function.inputs]
                values[i] = value
                with pytest.raises(gr.Error, match=f'{control.label}: a number from'):
                    preprocess(page, function, values)
                tried += 1
    assert tried == 15


def test_texts_and_lists_are_bounded(page):
    tried = set()
    for function in page.blocks.fns.values():
        for i, control in enumerate(function.inputs):
            multi = isinstance(control, gr.Dropdown) and control.multiselect
            if multi or isinstance(control, gr.Textbox):
                values = [getattr(other, 'value', None) for other in function.inputs]
                values[i] = ['digits'] * 2000 if multi else '9,' * 2000
                with pytest.raises(gr.Error, match=f'{control.label}: at most'):
                    preprocess(page, function, values)
                tried.add(control.label)
    assert tried == {'Classes', 'Training runs', '... or these levels'}


def edit(page, web: httpx.Client, *files: dict) -> str:
    """What the page answers to a request to edit pictures."""
    picture = dict(background=files[0], layers=[*files[1:]], composite=None)
    data = ['digits/iter_2.pth', "the checkpoint's own", 'fp32', 'denoising', picture, 'middle']
    data += [None, [], 1, 0, 4, None, 3, '', 1]
    *_, done, _ = event(web, index_of(page, 'edit'), data)
    return done['output'].get('error') or 'done'


def test_pictures_are_bounded_by_their_header(page, web):
    assert edit(page, web, upload(web, png(8, 8))) == 'done'
    side = int(MAX_PIXELS**0.5) + 1
    large = png(picture=Image.new('1', (side, side)))
    assert f'{side} x {side} pixels' in edit(page, web, upload(web, large))
    huge = bytearray(png(8, 8))
    huge[16:24] = (20_000).to_bytes(4, 'big') * 2  # the header alone: it is never decoded
    assert 'no picture that can be read' in edit(page, web, upload(web, bytes(huge)))
    assert 'at most 4 pictures' in edit(page, web, *[upload(web, png(8, 8))] * 5)


@pytest.mark.parametrize(
    'content',
    [
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n',
        png(8, 8)[:50],
        b'',
        b'<svg/>',
    ],
)
def test_no_other_file_is_read_as_a_picture(page, web, content):
    assert 'no picture that can be read' in edit(page, web, upload(web, content))


def test_requests_are_bounded(web):
    body = dict(data=['x' * 200_000], fn_index=0, session_hash='me')
    assert web.post('/queue/join', json=body).status_code == 413
    in_parts = web.post('/queue/join', content=iter([b'{}']))
    assert in_parts.status_code == 413
    large = web.post('/upload', files=dict(files=('a.png', bytes(22 << 20))))
    assert large.status_code == 413
    blob = dict(component_id='1', session_hash='me', fn_name='accept_blobs', type='layer')
    answer = web.post('/component_server', data=dict(blob, index='999999999'))
    assert answer.status_code == 404


@pytest.mark.parametrize('listens', [True, False])
def test_the_job_of_a_client_who_has_gone_ends(page, web, monkeypatch, listens):
    monkeypatch.setattr(events, 'SECONDS_TO_COME', 0.2)
    function = page.blocks.fns[index_of(page, 'generate')]
    data = [control.value for control in function.inputs]
    labels = [control.label for control in function.inputs]
    for label, value in {'Images': 256, 'Sampler A': 'Heun', 'Steps': 100}.items():
        data[labels.index(label)] = value
    data[-1] = 1  # at a time: minutes
    if listens:
        for message in event(web, index_of(page, 'generate'), data):
            if message['msg'] == 'progress':
                break  # which closes the stream
    else:
        web.post('/call/generate', json=dict(data=data))
    begin = time.monotonic()
    assert '| A | one step |' in page.client.predict(num_images=1, api_name='/generate')[0]
    assert time.monotonic() - begin < 15
