"""Fetching a large file and unpacking it."""

import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.io.download import download, unpack_member

CONTENT = bytes(range(256)) * 40


class Server(BaseHTTPRequestHandler):
    """Knows ranges; the class attributes say how it misbehaves."""

    ranges = True
    break_after = None
    asked = ()

    def do_GET(self):
        if self.path != '/cat.zip':
            return self.send_error(404)
        asked = self.headers.get('Range')
        type(self).asked = (*self.asked, asked)
        start = int(asked[6:-1]) if asked and self.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(CONTENT)}')
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(CONTENT) - start))
        self.end_headers()
        return self.wfile.write(CONTENT[start : self.break_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    handler = type('Handler', (Server,), {})
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        handler.url = f'http://127.0.0.1:{http.server_port}/cat.zip'
        yield handler
        http.shutdown()


def test_fetches_once(server, tmp_path):
    path = tmp_path / 'new/cat.zip'
    assert download(server.url, path) == path
    assert path.read_bytes() == CONTENT
    download(server.url, path)
    assert server.asked == (None,)


@pytest.mark.parametrize('ranges', [True, False])
def test_goes_on_where_it_stopped(server, tmp_path, ranges):
    server.ranges, server.break_after = ranges, 3000
    path = tmp_path / 'cat.zip'
    with pytest.raises(InputError, match='7,240'):
        download(server.url, path)
    assert not path.exists()
    server.break_after = None
    assert download(server.url, path).read_bytes() == CONTENT
    assert server.asked == (None, 'bytes=3000-')
    assert [*tmp_path.iterdir()] == [path]


def test_killed_between_fetching_and_renaming(server, tmp_path):
    (tmp_path / 'cat.zip.part').write_bytes(CONTENT)
    assert download(server.url, tmp_path / 'cat.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('url', ['http://127.0.0.1:9/cat.zip', 'http://no.invalid/cat.zip', None])
def test_offline_it_says_what_to_do(server, tmp_path, url):
    url, path = url or f'{server.url}x', tmp_path / 'cat.zip'
    with pytest.raises(InputError, match=url) as error:
        download(url, path)
    assert str(path) in str(error.value)


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / 'cat.zip', 'w') as files:
        files.writestr('cat/data.mdb', CONTENT)
    return tmp_path / 'cat.zip'


def test_unpacks_once(archive, tmp_path):
    target = unpack_member(archive, 'cat/data.mdb', tmp_path / 'x')
    assert target == tmp_path / 'x/data.mdb'
    assert target.read_bytes() == CONTENT
    archive.unlink()
    assert unpack_member(archive, 'cat/data.mdb', tmp_path / 'x') == target
    assert [*(tmp_path / 'x').iterdir()] == [target]


def test_damaged_archives_are_named(archive, tmp_path):
    with pytest.raises(InputError, match=r'dog/data\.mdb'):
        unpack_member(archive, 'dog/data.mdb', tmp_path)
    spoilt = bytearray(archive.read_bytes())
    spoilt[100] ^= 1
    for data in spoilt, spoilt[:500]:
        archive.write_bytes(data)
        with pytest.raises(InputError, match=r'cat\.zip'):
            unpack_member(archive, 'cat/data.mdb', tmp_path / 'x')
        assert not (tmp_path / 'x/data.mdb').exists()


def test_a_file_is_checked_before_it_gets_its_name(server, tmp_path):
    path = tmp_path / 'x.pt'

    def check(fresh):
        assert not path.exists()
        if fresh.read_bytes() == CONTENT:
            raise InputError('It is another one.')

    with pytest.raises(InputError, match='another one'):
        download(server.url, path, check)
    assert [*tmp_path.iterdir()] == []


def test_the_rest_of_a_longer_file_is_no_rest_of_this_one(server, tmp_path):
    (tmp_path / 'x.pt.part').write_bytes(bytes(len(CONTENT) + 1))
    assert download(server.url, tmp_path / 'x.pt').read_bytes() == CONTENT


@pytest.mark.parametrize('progress', [True, False])
def test_the_bar(progress, server, tmp_path, capsys):
    download(server.url, tmp_path / 'x.pt', progress=progress)
    assert ('100%' in capsys.readouterr().err) == progress
