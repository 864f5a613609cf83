"""Downloads of released weights, from a server of our own that knows ranges."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine import Config

from mmagic_cm.checkpoints import released
from mmagic_cm.checkpoints.fetching import fetch
from mmagic_cm.checkpoints.released import ReleasedModel
from mmagic_cm.errors import InputError

NAME = 'ct_cat256'


class Server(BaseHTTPRequestHandler):
    content = b''
    break_after = None
    asked = ()

    def do_GET(self):
        asked = self.headers.get('Range')
        type(self).asked = (*self.asked, asked)
        if self.path != f'/{NAME}.pt':
            return self.send_error(404)
        start = int(asked[6:-1]) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(self.content) - start))
        self.end_headers()
        return self.wfile.write(self.content[start : self.break_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path, recorded, written):
    """Serves the file of a small network, which is released as NAME."""
    expected = recorded('uncond')
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: Config(dict(expected.cfg)))
    handler = type('Handler', (Server,), dict(content=written('openai', 'uncond').read_bytes()))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(released, 'ADDRESS', f'http://127.0.0.1:{http.server_port}')
        yield handler
        http.shutdown()


def test_fetched_once(server, tmp_path):
    path = fetch(NAME)
    assert path == tmp_path / f'cache/{NAME}.pt'
    assert path.read_bytes() == server.content
    assert fetch(NAME) == path
    assert server.asked == (None,)
    assert [*path.parent.iterdir()] == [path]


def test_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = 3000
    with pytest.raises(InputError, match='bytes before the end: run the command again') as caught:
        fetch(NAME)
    assert f'put it at {tmp_path}/cache/{NAME}.pt.' in str(caught.value)
    assert not (tmp_path / f'cache/{NAME}.pt').exists()
    server.break_after = None
    assert fetch(NAME).read_bytes() == server.content
    assert server.asked == (None, 'bytes=3000-')


def test_a_file_of_something_else_is_not_kept(server, tmp_path):
    whole = server.content
    flipped = bytearray(whole)
    flipped[-len(whole) // 3] ^= 1  # one bit of a weight
    for content in (b'<html>Please log in</html>', whole[:-9], bytes(flipped)):
        server.content = content
        with pytest.raises(
            InputError, match=f'is not http.*{NAME}.* (cut short|refused|damaged).*Fetch'
        ):
            fetch(NAME)
        assert [*(tmp_path / 'cache').iterdir()] == []


@pytest.mark.parametrize('layout', ['another network', 'fewer weights'])
def test_other_weights_are_not_kept(layout, server, tmp_path, recorded):
    weights = dict(recorded('cond' if layout == 'another network' else 'uncond').weights)
    del weights['out.2.bias']
    torch.save(weights, tmp_path / 'x.pt')
    server.content = (tmp_path / 'x.pt').read_bytes()
    with pytest.raises(InputError, match='does not fit this model'):
        fetch(NAME)
    assert [*(tmp_path / 'cache').iterdir()] == []


def test_a_bad_file_that_is_there_is_told_but_not_removed(server, tmp_path):
    path = tmp_path / f'cache/{NAME}.pt'
    path.parent.mkdir()
    path.write_bytes(server.content[:5000])
    with pytest.raises(InputError, match=r'cat256\.pt is not http.*cut short.*Fetch it again'):
        fetch(NAME)
    assert path.is_file()


def test_offline_it_says_where_to_put_the_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr(released, 'ADDRESS', 'http://127.0.0.1:9')
    with pytest.raises(InputError) as caught:
        fetch(NAME)
    sentence = str(caught.value)
    assert sentence.startswith(f'http://127.0.0.1:9/{NAME}.pt cannot be fetched (')
    assert sentence.endswith(f'put it at {tmp_path}/cache/{NAME}.pt.')
    assert '\n' not in sentence


def test_an_unknown_name_asks_nobody(server):
    with pytest.raises(InputError, match="Did you mean 'ct_cat256'"):
        fetch('ct_cat2566')
    assert server.asked == ()
