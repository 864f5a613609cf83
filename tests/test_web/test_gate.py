"""What a request may say: no path of the server, no number beyond its slider, no large picture."""

import asyncio
import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import gradio_client
import numpy as np
import pytest
from PIL import Image

from mmagic_cm.web import events
from mmagic_cm.web.edit_tab import digits_to_pick
from mmagic_cm.web.gate import API

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


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 50).save(file, 'png')
    return file.getvalue()


def controls(page, *kinds: type) -> Iterator[tuple[gr.components.Component, Callable]]:
    """Each input of each event that is of a kind, and what hands a value to it.

    That is what Gradio does before it calls a function, the other inputs as they are at first.
    """
    loop = asyncio.new_event_loop()  # asyncio.run would leave Gradio without one
    for function in page.blocks.fns.values():
        for i, control in enumerate(function.inputs):

            def give(value: Any, function=function, i=i) -> list:
                values = [getattr(other, 'value', None) for other in function.inputs]
                values[i] = value
                work = page.blocks.preprocess_data(function, values, None)
                return loop.run_until_complete(work)

            if isinstance(control, kinds):
                yield control, give


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
    found = [*controls(page, gr.components.Component)]
    assert len(found) > 40
    for control, give in found:
        if isinstance(control, gr.State) or isinstance(value, str):
            # A state is the server's own; a text is a name that is looked up, or is refused.
            with suppress(Exception):
                give(value)
            continue
        with pytest.raises(gr.Error, match='must be uploaded'):
            give(value)
    assert str(path) not in opened


def test_no_endpoint_answers_with_a_picture_of_the_server(page, web, ask, secret):
    """Each, asked over the network, from another site, too."""
    path, opened = secret
    gallery, editor = SHAPES['gallery'](str(path)), SHAPES['editor'](str(path))
    more = dict(event_data=dict(index=0, value=SHAPES['path'](str(path))))
    for number, function in page.blocks.fns.items():
        data = [editor if isinstance(c, gr.ImageEditor) else gallery for c in function.inputs]
        assert [*ask(number, data, ELSEWHERE, **more)] == [dict(msg='refused', status=403)]
        *_, done = ask(number, data, **more)
        only_states = all(isinstance(control, gr.State) for control in function.inputs)
        assert only_states or not done['success']
        for way in ('run', 'api'):
            body = dict(data=data, fn_index=number, session_hash='me', **more)
            assert web.post(f'/{way}/predict', json=body).status_code == 404
    assert str(path) not in opened


def test_what_was_drawn_is_picked_by_its_number(page, ask):
    """The pictures and their names stay on the server."""
    client = gradio_client.Client(page.url, verbose=False)

    def answer(event: str, index: Any = None) -> dict:
        more = dict(event_data=dict(index=index, value=None), session_hash=client.session_hash)
        *_, done = ask(event, [None], **more)
        return done['output']

    def picked(index: int) -> np.ndarray:
        with Image.open(answer('_picked', index)['data'][0]['background']['path']) as picture:
            return np.asarray(picture)[::40, ::40, 0]

    assert np.array_equal(picked(3), digits_to_pick()[3])
    assert 'Nothing was drawn yet' in answer('_offered')['error']
    npz = client.predict(num_images=4, api_name='/generate')[3]
    shown, state = answer('_offered')['data']
    assert len(shown) == 4
    assert state is None
    with np.load(npz) as arrays:
        assert np.array_equal(picked(3), arrays['arr_0'][3, ..., 0])
    for index in ('a', 4, None, {}):
        assert 'not your fault' in answer('_picked', index)['error']


@pytest.mark.parametrize('value', [1e16, -1, 10**30, float('nan'), float('inf'), 'x', [1], {}])
def test_every_number_is_bounded(page, value):
    found = [*controls(page, gr.Slider, gr.Number)]
    assert len(found) == 15
    for control, give in found:
        with pytest.raises(gr.Error, match=f'{control.label}: a number from'):
            give(value)


def test_texts_and_lists_are_bounded(page):
    tried = set()
    for control, give in controls(page, gr.Dropdown, gr.Textbox):
        several = getattr(control, 'multiselect', False)
        if several or isinstance(control, gr.Textbox):
            with pytest.raises(gr.Error, match=f'{control.label}: at most'):
                give(['digits'] * 2000 if several else '9,' * 2000)
            tried.add(control.label)
    assert tried == {'Classes', 'Training runs', '... or these levels'}


@pytest.fixture
def edit(web, ask) -> Callable[..., str]:
    """Upload files, ask to edit the first with the others as its paint: the error, or 'done'."""

    def answer(*files: bytes) -> str:
        uploads = []
        for content in files:
            [path] = web.post('/upload', files=dict(files=('a.png', content))).json()
            uploads.append(dict(path=path, url=f'{web.base_url}file={path}', **META))
        picture = dict(background=uploads[0], layers=uploads[1:], composite=None)
        data = ['digits/iter_2.pth', "the checkpoint's own", 'fp32', 'denoising', picture, 'middle']
        *_, done = ask('edit', [*data, None, [], 1, 0, 4, None, 3, '', 1])
        return done['output'].get('error') or 'done'

    return answer


def test_pictures_are_bounded_by_their_header(edit):
    small = png(8, 8)
    assert edit(small) == 'done'
    assert 'at most 4 pictures' in edit(*[small] * 5)
    head = b'IHDR' + struct.pack('>II', 5_000, 5_000) + small[24:29]
    huge = small[:12] + head + struct.pack('>I', zlib.crc32(head)) + small[33:]
    assert '5000 x 5000 pixels' in edit(huge)


@pytest.mark.parametrize(
    'content', [b'%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n', png(8, 8)[:50], b'', b'<svg/>']
)
def test_no_other_file_is_read_as_a_picture(edit, content):
    assert 'cannot be read as a picture' in edit(content)


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
def test_the_job_of_a_client_who_has_gone_ends(page, web, ask, monkeypatch, listens):
    monkeypatch.setattr(events, 'SECONDS_TO_COME', 0.2)
    [inputs] = [fn.inputs for fn in page.blocks.fns.values() if fn.api_name == 'generate']
    data, labels = [c.value for c in inputs], [c.label for c in inputs]
    for label, value in {'Images': 256, 'Sampler A': 'heun', 'Images at a time': 1}.items():
        data[labels.index(label)] = value  # minutes of work
    if listens:
        next(message for message in ask('generate', data) if message['msg'] == 'progress')
    else:
        web.post('/call/generate', json=dict(data=data))
    begin = time.monotonic()
    assert '| A | onestep |' in page.client.predict(num_images=1, api_name='/generate')[0]
    assert time.monotonic() - begin < 10
