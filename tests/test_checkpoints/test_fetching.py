"""Downloads of released weights: what is kept, and what is not."""

import json
from dataclasses import replace

import pytest
import torch
from mmengine import Config

from mmagic_cm.apis import init_model
from mmagic_cm.checkpoints import RELEASED, Checkpoint
from mmagic_cm.checkpoints.fetching import fetch
from mmagic_cm.checkpoints.released import ReleasedModel
from mmagic_cm.errors import InputError

NAME = 'ct_cat256'
EDM = 'edm-cifar10-32x32-uncond-vp'


@pytest.fixture
def served(server, monkeypatch, recorded, written):
    """The file of a small network, which a server of our own has released as NAME."""
    folder, address = server
    expected = recorded('uncond')
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: Config(dict(expected.cfg)))
    moved = replace(RELEASED[NAME], url=f'{address}/{NAME}.pt')
    monkeypatch.setitem(RELEASED, NAME, moved)
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


def test_a_pickle_of_edm(server, cache, data, monkeypatch):
    folder, address = server
    file, pickles = folder / f'{EDM}.pkl', data / 'goldens'
    # The address does not have the name of the file in the cache, as those of the JAX code.
    monkeypatch.setitem(RELEASED, EDM, replace(RELEASED[EDM], url=f'{address}/checkpoint_80'))
    whole = (pickles / 'edm_pickle_tiny_ddpmpp.pkl').read_bytes()
    file.write_bytes(whole)
    small = Checkpoint(file).sampling_config()
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: small)
    for content in (whole[:-9], (pickles / 'ect_pickle_tiny.pkl').read_bytes()[:5000]):
        (folder / 'checkpoint_80').write_bytes(content)
        with pytest.raises(InputError, match=EDM):
            fetch(EDM)
        assert [*cache.iterdir()] == []
    (folder / 'checkpoint_80').write_bytes(whole)
    assert fetch(EDM) == cache / f'{EDM}.pkl'
    assert fetch(EDM).read_bytes() == whole


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(InputError, match=f"'{NAME}'"):
        fetch('ct_cat2566')


def test_a_checkpoint_of_jax(server, cache, data, goldens, monkeypatch):
    folder, address = server
    name, recorded = 'cd_cifar10_lpips', goldens('jax_ncsnpp_tiny')
    theirs, model = json.loads(str(recorded['config'])), RELEASED['cd_cifar10_lpips']
    network = dict(
        model_channels=theirs['nf'],
        num_res_blocks=theirs['num_res_blocks'],
        channel_mult=tuple(theirs['ch_mult']),
    )
    small = model.config()
    small.merge_from_dict({'model.denoiser.network': network})
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: small)
    monkeypatch.setitem(RELEASED, name, replace(model, url=f'{address}/checkpoint_80'))
    whole = (data / 'goldens/jax_ncsnpp_tiny.msgpack').read_bytes()
    for content in (whole[:-100_000], b'<html>'):
        (folder / 'checkpoint_80').write_bytes(content)
        with pytest.raises(InputError, match=name):
            fetch(name)
        assert [*cache.iterdir()] == []
    (folder / 'checkpoint_80').write_bytes(whole)
    assert fetch(name) == cache / f'{name}.msgpack'
    (folder / 'checkpoint_80').unlink()
    assert Checkpoint(f'{address}/checkpoint_80').emas  # it is known by its address, too
    with torch.no_grad():
        found = init_model(name, device='cpu').denoiser(recorded['x_t'], recorded['sigmas'])
    torch.testing.assert_close(found, recorded['denoised_consistency'], rtol=0, atol=2e-5)
