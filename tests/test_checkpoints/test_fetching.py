"""Downloads of released weights: what is kept, and what is not."""

import pytest
import torch
from mmengine import Config

from mmagic_cm.checkpoints import released
from mmagic_cm.checkpoints.fetching import fetch
from mmagic_cm.checkpoints.released import ReleasedModel
from mmagic_cm.errors import InputError

NAME = 'ct_cat256'


@pytest.fixture
def served(server, monkeypatch, recorded, written):
    """The file of a small network, which a server of our own has released as NAME."""
    folder, address = server
    expected = recorded('uncond')
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: Config(dict(expected.cfg)))
    monkeypatch.setattr(released, 'ADDRESS', address)
    return written('openai', 'uncond').rename(folder / f'{NAME}.pt')


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache/checkpoints'


def test_fetched_once(served, cache):
    path = fetch(NAME)
    assert path == cache / f'{NAME}.pt'
    assert path.read_bytes() == served.read_bytes()
    served.unlink()
    assert fetch(NAME) == path
    assert [*cache.iterdir()] == [path]


def test_a_file_of_something_else_is_not_kept(served, cache):
    whole = served.read_bytes()
    flipped = bytearray(whole)
    flipped[-len(whole) // 3] ^= 1  # one bit of a weight
    for content in (b'<html>Please log in</html>', whole[:-9], bytes(flipped)):
        served.write_bytes(content)
        with pytest.raises(InputError, match=NAME):
            fetch(NAME)
        assert [*cache.iterdir()] == []


@pytest.mark.parametrize('layout', ['another network', 'fewer weights'])
def test_other_weights_are_not_kept(layout, served, cache, recorded):
    weights = dict(recorded('cond' if layout == 'another network' else 'uncond').weights)
    del weights['out.2.bias']
    torch.save(weights, served)
    with pytest.raises(InputError, match='does not fit'):
        fetch(NAME)
    assert [*cache.iterdir()] == []


def test_a_bad_file_that_is_there_is_told_but_not_removed(served, cache):
    path = cache / f'{NAME}.pt'
    path.parent.mkdir(parents=True)
    path.write_bytes(served.read_bytes()[:5000])
    with pytest.raises(InputError, match=NAME):
        fetch(NAME)
    assert path.is_file()


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(InputError, match=f"'{NAME}'"):
        fetch('ct_cat2566')
