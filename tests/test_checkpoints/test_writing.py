"""Files of every layout: bit-equal there and back, whole or not at all."""

import json
import os

import pytest
import torch
from safetensors import safe_open

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.checkpoints.conversion import read_source
from mmagic_cm.checkpoints.writing import content_hash, write_diffusers, write_openai
from mmagic_cm.errors import InputError
from mmagic_cm.models.denoiser import ConsistencyParameterization

TARGETS = ('openai', 'published.safetensors', 'published.pth', 'diffusers')
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


@pytest.mark.parametrize(
    'target', ['openai', 'published.safetensors', 'published.pth', 'diffusers']
)
@pytest.mark.parametrize('layout', ['training', *TARGETS])
def test_from_any_layout_to_any_other_nothing_changes(layout, target, written, recorded, tmp_path):
    name = 'uncond' if layout == 'openai' else 'cond'
    expected = recorded(name)
    source = read_source(written(layout, name), config=expected.cfg)
    assert same(source.weights, expected.weights)
    path = write(source, target, tmp_path)
    assert same(read_source(path, config=expected.cfg).weights, expected.weights)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    'target', ['openai', 'published.safetensors', 'published.pth', 'diffusers']
)
def test_the_precision_stays(dtype, target, recorded, tmp_path):
    source = recorded('cond').source()
    source.weights = {name: tensor.to(dtype) for name, tensor in source.weights.items()}
    path = write(source, target, tmp_path)
    found = read_source(path, config=source.config).weights
    assert same(found, source.weights)


@pytest.mark.parametrize(
    'target', ['openai', 'published.safetensors', 'published.pth', 'diffusers']
)
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
    assert content_hash(written(layout)) == content_hash(again)
    assert len(content_hash(again)) == 8


def test_what_a_published_file_holds(written, recorded):
    with safe_open(written('published.safetensors'), 'pt') as file:
        assert [*file.metadata()] == ['mmagic_cm']
        assert 'parameterization' in json.loads(file.metadata()['mmagic_cm'])['cfg']
        assert all(name.startswith('denoiser.network.') for name in file.keys())  # noqa: SIM118
    checkpoint = read_checkpoint(written('published.pth'))
    assert checkpoint.keys() == {'state_dict', 'meta'}


def test_a_write_that_fails_leaves_nothing_behind(recorded, tmp_path, monkeypatch):
    path = tmp_path / 'x.pt'
    write_openai(dict(a=torch.ones(1)), path)

    def fails(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'replace', fails)
    with pytest.raises(OSError, match='No space') as caught:
        write_openai(dict(a=torch.zeros(1)), path)
    assert caught.value.__notes__ == [f'while writing {path}']
    with pytest.raises(OSError, match='No space'):
        recorded('cond').source().write_diffusers(tmp_path / 'folder')
    assert [*tmp_path.iterdir()] == [path]
    assert torch.load(path, weights_only=True)['a'] == 1


def test_a_folder_that_is_there_stays(recorded, tmp_path):
    (tmp_path / 'a').mkdir()
    recorded('cond').source().write_diffusers(tmp_path / 'a')  # it was empty
    with pytest.raises(InputError, match='is there already: name a new folder'):
        recorded('cond').source().write_diffusers(tmp_path / 'a')
    (tmp_path / 'b').write_text('a file')
    with pytest.raises(InputError, match='is there already'):
        recorded('cond').source().write_diffusers(tmp_path / 'b')
    with pytest.raises(FileExistsError, match='b'):
        recorded('cond').source().write_diffusers(tmp_path / 'b/c')


def test_an_edm_model_is_no_consistency_model(recorded, tmp_path):
    with pytest.raises(InputError, match="this model's is EDM: it cannot be written") as caught:
        recorded('cond', 'edm').source().write_diffusers(tmp_path / 'a')
    assert 'D(x, sigma_min) = x' in str(caught.value)
    assert not (tmp_path / 'a').exists()


def test_a_parameterization_counts_by_what_it_computes(recorded, tmp_path):
    class Mine(ConsistencyParameterization):
        pass

    class Other(ConsistencyParameterization):
        def c_noise(self, sigma):
            return 1000 * sigma.log()

    source = recorded('cond').source()
    denoiser = source.denoiser
    own = denoiser.parameterization
    try:
        denoiser.parameterization = Other()
        with pytest.raises(InputError, match='is Other'):
            write_diffusers(source.weights, denoiser, tmp_path / 'a')
        denoiser.parameterization = Mine()
        write_diffusers(source.weights, denoiser, tmp_path / 'a')
    finally:
        denoiser.parameterization = own


def test_a_sampler_with_other_levels_than_the_denoiser(recorded, tmp_path):
    source = recorded('cond').source()
    source.config.model = dict(
        source.config.model, sampler=dict(type='OnestepSampler', sigma_max=9)
    )
    with pytest.raises(InputError, match="one sigma_max: the sampler's 9 and the denoiser's 80"):
        source.write_diffusers(tmp_path / 'a')
