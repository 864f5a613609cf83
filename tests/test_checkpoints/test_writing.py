"""Files of every layout: bit-equal there and back, whole or not at all."""

import json
import resource

import pytest
import torch
from safetensors import SafetensorError, safe_open

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.checkpoints.conversion import read_source
from mmagic_cm.checkpoints.writing import write_openai
from mmagic_cm.errors import InputError
from mmagic_cm.io.digests import file_digest

TARGETS = ('openai', 'published.safetensors', 'published.pth', 'diffusers')
# What the libraries make of a full disk.
FAILURES = (OSError, SafetensorError)
TO_EACH = pytest.mark.parametrize('target', TARGETS)


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype
        for name in expected
    )


def write(source, target: str, folder):
    path = folder / f'second.{target.removeprefix("published.")}'
    if target == 'openai':
        write_openai(source.weights, path)
    elif target == 'diffusers':
        source.write_diffusers(path)
    else:
        source.write_ours(path)
    return path


@TO_EACH
@pytest.mark.parametrize('layout', ['training', *TARGETS])
def test_from_any_layout_to_any_other_nothing_changes(layout, target, written, recorded, tmp_path):
    name = 'uncond' if layout == 'openai' else 'cond'
    expected = recorded(name)
    source = read_source(written(layout, name), config=expected.cfg)
    assert same(source.weights, expected.weights)
    path = write(source, target, tmp_path)
    assert same(read_source(path, config=expected.cfg).weights, expected.weights)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@TO_EACH
def test_the_precision_stays(dtype, target, recorded, tmp_path):
    source = recorded('cond').source()
    source.weights = {name: tensor.to(dtype) for name, tensor in source.weights.items()}
    path = write(source, target, tmp_path)
    found = read_source(path, config=source.config).weights
    assert same(found, source.weights)


@TO_EACH
def test_tensors_in_another_order_of_memory_and_parts_of_others(target, recorded, tmp_path):
    source = recorded('cond').source()
    expected = dict(source.weights)
    both = {name: torch.stack([t, t + 1]) for name, t in expected.items()}
    source.weights = {
        name: pair[0].to(memory_format=torch.channels_last) if pair[0].ndim == 4 else pair[0]
        for name, pair in both.items()
    }
    path = write(source, target, tmp_path)
    assert same(read_source(path, config=source.config).weights, expected)
    size = sum(p.stat().st_size for p in (path.rglob('*') if path.is_dir() else [path]))
    assert size < 1.3 * sum(tensor.nbytes for tensor in expected.values())


def test_the_openai_layout_is_the_paper_s(written, recorded):
    content = torch.load(written('openai'), weights_only=True)
    assert [*content] == recorded('cond').arrays['state_keys'].tolist()


@pytest.mark.parametrize('layout', ['published.safetensors', 'published.pth'])
def test_the_same_weights_make_the_same_file(layout, written, recorded, tmp_path):
    again = tmp_path / f'by another name.{layout.split(".")[1]}'
    recorded('cond').source().write_ours(again)
    assert file_digest(written(layout)) == file_digest(again)


def test_what_a_published_file_holds(written, recorded):
    with safe_open(written('published.safetensors'), 'pt') as file:
        assert [*file.metadata()] == ['mmagic_cm']
        assert 'parameterization' in json.loads(file.metadata()['mmagic_cm'])['cfg']
        assert all(name.startswith('denoiser.network.') for name in file.keys())  # noqa: SIM118
    checkpoint = read_checkpoint(written('published.pth'))
    assert checkpoint.keys() == {'state_dict', 'meta'}


@pytest.fixture
def full_disk():
    """No file may grow beyond 10 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@TO_EACH
def test_a_full_disk_leaves_nothing_behind(target, recorded, tmp_path, full_disk):
    with pytest.raises(FAILURES) as caught:
        write(recorded('cond').source(), target, tmp_path)
    assert 'too large' in str(caught.value)
    assert 'while writing' in caught.value.__notes__[0]
    assert [*tmp_path.iterdir()] == []


def test_what_was_there_stays_until_the_new_is_whole(tmp_path, full_disk):
    path = tmp_path / 'x.pt'
    write_openai(dict(a=torch.ones(1)), path)
    with pytest.raises(FAILURES):
        write_openai(dict(a=torch.zeros(10_000)), path)
    assert [*tmp_path.iterdir()] == [path]
    assert torch.load(path, weights_only=True)['a'] == 1


@TO_EACH
def test_others_may_read_it(target, recorded, tmp_path):
    path = write(recorded('uncond').source(), target, tmp_path)
    usual = tmp_path / 'usual'
    usual.touch()
    for file in [path, *path.rglob('*.*')]:
        if file.is_file():
            assert file.stat().st_mode == usual.stat().st_mode


def test_a_folder_that_is_there_stays(recorded, tmp_path):
    (tmp_path / 'a').mkdir()
    recorded('cond').source().write_diffusers(tmp_path / 'a')  # it was empty
    with pytest.raises(InputError, match=str(tmp_path / 'a')):
        recorded('cond').source().write_diffusers(tmp_path / 'a')
    (tmp_path / 'b').write_text('a file')
    with pytest.raises(InputError, match=str(tmp_path / 'b')):
        recorded('cond').source().write_diffusers(tmp_path / 'b')
    with pytest.raises(OSError, match='b/c'):
        recorded('cond').source().write_diffusers(tmp_path / 'b/c')
