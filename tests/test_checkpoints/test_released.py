"""The twelve released models: their settings, and where their files are."""

import json
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.runner.checkpoint import CheckpointLoader

from mmagic_cm.apis import init_model, load_config
from mmagic_cm.checkpoints import (
    RELEASED,
    read_checkpoint,
    register_safe_loaders,
    released,
    released_model,
)
from mmagic_cm.checkpoints.released import ReleasedModel, cache_folder
from mmagic_cm.diffusion.samplers import MultistepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DIFFUSION_SAMPLERS, MODELS

# (levels, of how many) as published; None: one step.
PUBLISHED = {
    'edm_imagenet64_ema': 'edm',
    'cd_imagenet64_l2': ((0, 22, 39), 40),
    'cd_imagenet64_lpips': ((0, 22, 39), 40),
    'ct_imagenet64': ((0, 106, 200), 201),
    'edm_bedroom256_ema': 'edm',
    'cd_bedroom256_l2': ((0, 18, 39), 40),
    'cd_bedroom256_lpips': ((0, 17, 39), 40),
    'ct_bedroom256': ((0, 67, 150), 151),
    'edm_cat256_ema': 'edm',
    'cd_cat256_l2': None,
    'cd_cat256_lpips': None,
    'ct_cat256': ((0, 62, 150), 151),
}
LEAVES = {
    '8xb256-imagenet1k-onestep-64x64': 'cd_imagenet64_lpips',
    '8xb256-imagenet1k-multistep-64x64': 'cd_imagenet64_lpips',
    '8xb32-LSUN-bedroom-onestep-256x256': 'cd_bedroom256_lpips',
    '8xb32-LSUN-bedroom-multistep-256x256': 'cd_bedroom256_lpips',
    '8xb32-LSUN-cat-onestep-256x256': 'cd_cat256_lpips',
    '8xb32-LSUN-cat-multistep-256x256': 'ct_cat256',
}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'cache').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'cache'


def test_there_are_twelve():
    assert RELEASED.keys() == PUBLISHED.keys()
    assert RELEASED['ct_cat256'].url == (
        'https://openaipublic.blob.core.windows.net/consistency/ct_cat256.pt'
    )


@pytest.mark.parametrize('name', PUBLISHED)
def test_network_parameterization_and_sampler(name, data):
    cfg = load_config(name)
    layout = 'imagenet64' if 'imagenet64' in name else 'lsun256'
    recorded = json.loads((data / 'goldens/checkpoint_layouts.json').read_text())[layout]
    with torch.device('meta'):
        denoiser = MODELS.build(cfg.model.denoiser)
    found = {key: [*value.shape] for key, value in denoiser.network.state_dict().items()}
    assert found == recorded['state_dict']
    assert not list(denoiser.network.buffers())
    assert denoiser.network.middle_block[1].qkv.in_channels // 64 == (
        denoiser.network.middle_block[1].num_heads
    )
    sampler, published = DIFFUSION_SAMPLERS.build(cfg.model.sampler), PUBLISHED[name]
    assert cfg.model.denoiser.parameterization == ('edm' if published == 'edm' else 'consistency')
    if published == 'edm':
        assert sampler.num_evaluations == 79
    elif published is None:
        assert sampler.num_evaluations == 1
    else:
        ts, num_scales = published
        assert sampler.sigmas == MultistepSampler(ts, num_scales).sigmas
    assert cfg.load_from == name
    assert cfg.default_scope == 'mmagic_cm'


@pytest.mark.parametrize(('leaf', 'name'), LEAVES.items())
def test_inference_leaves(leaf, name):
    cfg, released = load_config(f'consistency_models_{leaf}'), released_model(name).config()
    assert cfg.load_from == released.load_from
    assert cfg.model.denoiser == released.model.denoiser
    assert 'objective' not in cfg.model
    onestep = 'onestep' in leaf
    assert cfg.model.sampler == (dict(type='OnestepSampler') if onestep else released.model.sampler)


def test_a_mistyped_name_is_answered_with_the_closest():
    with pytest.raises(InputError, match="'ct_cat256'"):
        released_model('ct_cat25')
    with pytest.raises(InputError, match="'ct_cat256'"):
        init_model('ct_cat25', 'auto', 'cpu')


def test_what_is_not_there_is_named_with_its_address_and_its_place(cache):
    for path in ('ct_cat256.pt', 'ct_cat256', Path('ct_cat256.pt')):
        with pytest.raises(InputError, match=str(cache / 'ct_cat256.pt')) as caught:
            read_checkpoint(path)
        assert f'{released.ADDRESS}/ct_cat256.pt' in str(caught.value)
    for path in ('elsewhere/ct_cat256.pt', 'ct_cat256.pth'):
        with pytest.raises(InputError, match=path):
            read_checkpoint(path)


@pytest.mark.parametrize('checkpoint', [None, 'auto'])
def test_nothing_is_built_before_that(checkpoint, cache, monkeypatch):
    monkeypatch.setattr(MODELS, 'build', lambda *args: pytest.fail('it was built'))
    with pytest.raises(InputError, match=r'ct_cat256\.pt'):
        init_model('ct_cat256', checkpoint, 'cpu')


def test_a_released_name_is_its_file_in_the_cache_wherever_a_path_is(cache, recorded):
    torch.save(recorded('cond').weights, cache / 'edm_imagenet64_ema.pt')
    teacher, expected = recorded('cond', 'edm'), recorded('cond')
    for path in ('edm_imagenet64_ema.pt', 'edm_imagenet64_ema'):
        teacher.assert_gives_the_recorded(init_model(teacher.cfg, path, 'cpu'))
    cfg = dict(teacher.cfg, load_from='edm_imagenet64_ema.pt')
    teacher.assert_gives_the_recorded(init_model(cfg, 'auto', 'cpu'))
    model = MODELS.build(
        dict(
            expected.cfg.model,
            objective=dict(type='ConsistencyDistillation'),
            teacher=dict(checkpoint='edm_imagenet64_ema.pt'),
            init_from='edm_imagenet64_ema.pt',
        )
    )
    model.init_weights()
    expected.assert_gives_the_recorded(model.eval())
    teacher.assert_gives_the_recorded(model.teacher)
    register_safe_loaders()
    loaded = CheckpointLoader.load_checkpoint('edm_imagenet64_ema.pt', 'cpu', logger='silent')
    assert loaded.keys() == teacher.weights.keys()


@pytest.mark.parametrize(
    ('name', 'given', 'right'),
    [('edm_cat256_ema', 'consistency', 'edm'), ('ct_cat256', 'edm', 'c')],
)
def test_a_file_under_the_other_scalings(name, given, right, cache, recorded):
    torch.save(recorded('cond').weights, cache / f'{name}.pt')
    for path in (f'{name}.pt', cache / f'{name}.pt'):
        with pytest.raises(InputError, match=f'weights of the {right}.* config says {given}: take'):
            init_model(recorded('cond', given).cfg, path, 'cpu')


def test_a_file_of_that_name_comes_first(cache, recorded):
    torch.save(dict(a=torch.zeros(1)), cache / 'ct_cat256.pt')
    torch.save(dict(a=torch.ones(1)), 'ct_cat256.pt')
    assert read_checkpoint('ct_cat256.pt')['a'] == 1


def test_weights_of_another_network_in_the_cache(cache, recorded):
    torch.save(recorded('cond').weights, cache / 'cd_imagenet64_l2.pt')
    with torch.device('meta'):
        model = MODELS.build(load_config('cd_imagenet64_l2').model)
    with pytest.raises(InputError, match='cd_imagenet64_l2'):
        model.load_weights('cd_imagenet64_l2')


def test_a_released_name_is_enough(cache, recorded, monkeypatch):
    expected = recorded('cond')
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: Config(dict(expected.cfg)))
    torch.save(expected.weights, cache / 'cd_imagenet64_lpips.pt')
    for name in ('cd_imagenet64_lpips', cache / 'cd_imagenet64_lpips.pt'):
        expected.assert_gives_the_recorded(init_model(name, device='cpu'))


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv('MMAGIC_CM_CACHE', raising=False)
    monkeypatch.setenv('TORCH_HOME', '/somewhere')
    assert cache_folder() == Path('/somewhere/hub/checkpoints')
    monkeypatch.setenv('MMAGIC_CM_CACHE', '~/x')
    assert cache_folder() == Path.home() / 'x'
