"""Released models: their settings, where their files are, and what they serve for."""

import json
import lzma
import re
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.fileio import load
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import CheckpointLoader

from mmagic_cm.apis import init_model, load_config
from mmagic_cm.checkpoints import (
    RELEASED,
    Checkpoint,
    find_released,
    read_checkpoint,
    register_safe_loaders,
    released,
    released_model,
)
from mmagic_cm.checkpoints.released import ReleasedModel, cache_folder
from mmagic_cm.diffusion.samplers import MultistepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.models.consistency_model import TrainingProgress
from mmagic_cm.registry import DIFFUSION_SAMPLERS, MODELS

ROOT = Path(__file__).parents[2]
ADM = 'edm-imagenet-64x64-cond-adm'
CIFAR10 = {
    'edm_cifar10_ema': 'edm',
    'cd_cifar10_l1': None,
    'cd_cifar10_l2': None,
    'cd_cifar10_lpips': None,
    'ct_cifar10': None,
    'continuous_cd_cifar10_l2': None,
    'continuous_cd_cifar10_l2_stopgrad': None,
    'continuous_cd_cifar10_lpips_stopgrad': None,
    'continuous_ct_cifar10_l2': None,
    'continuous_ct_cifar10_lpips': None,
    'edm-cifar10-32x32-uncond-vp': 'edm',
    'edm-cifar10-32x32-uncond-ve': 'edm',
    'edm-cifar10-32x32-cond-vp': 'edm',
    'edm-cifar10-32x32-cond-ve': 'edm',
}
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
    ADM: 'edm',
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


def test_where_they_are():
    assert RELEASED.keys() == PUBLISHED.keys() | CIFAR10.keys()
    openai = 'https://openaipublic.blob.core.windows.net/consistency'
    for name, (url, file) in {
        'ct_cat256': (f'{openai}/ct_cat256.pt', 'ct_cat256.pt'),
        'edm_cifar10_ema': (f'{openai}/jcm_checkpoints/edm_cifar10_ema', 'edm_cifar10_ema.msgpack'),
        'ct_cifar10': (
            f'{openai}/jcm_checkpoints/ct-lpips/checkpoints/checkpoint_74',
            'ct_cifar10.msgpack',
        ),
        ADM: (f'https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/{ADM}.pkl', f'{ADM}.pkl'),
    }.items():
        assert RELEASED[name].url == url
        assert RELEASED[name].path == cache_folder() / file
        for path in (name, file, Path('elsewhere') / file):
            assert find_released(path) is RELEASED[name]
        assert find_released(f'{name}.pth') is None
    assert len({model.url for model in RELEASED.values()}) == len(RELEASED)


def test_the_figures_of_the_metafile():
    metafile = load(ROOT / 'configs/consistency_models/metafile.yml')
    for model in (model for model in metafile['Models'] if 'Weights' in model):
        released, [result] = find_released(model['Weights']), model['Results']
        evaluations = model['Metadata']['Number Of Function Evaluations']
        assert released.fid[evaluations] == result['Metrics']['FID (paper)']
        assert released.url == model['Weights']


def test_the_table_of_the_model_zoo():
    """It has them all, with the figures that were published for each."""
    text = (ROOT / 'configs/consistency_models/README.md').read_text()
    text = text.split('## Released weights')[1].split('\n## ')[0]
    rows = dict(re.findall(r'^\| `([\w-]+)` (\|.*)', text, re.M))
    assert [*rows] == [*RELEASED]
    for name, model in RELEASED.items():
        *_, evaluations, fids, licence, _ = (cell.strip() for cell in rows[name].split('|'))
        assert int(evaluations) == DIFFUSION_SAMPLERS.build(model.sampler).num_evaluations
        found = {int(n): float(fid) for fid, n in re.findall(r'([\d.]+) \((\d+)\)', fids)}
        assert found == model.fid
        assert licence == (model.family.licence or 'not stated')


@pytest.mark.parametrize('name', PUBLISHED)
def test_network_parameterization_and_sampler(name, data):
    cfg = load_config(name)
    layout = 'imagenet64' if 'imagenet' in name else 'lsun256'
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
        assert sampler.num_evaluations == (511 if name == ADM else 79)
    elif published is None:
        assert sampler.num_evaluations == 1
    else:
        ts, num_scales = published
        assert sampler.sigmas == MultistepSampler(ts, num_scales).sigmas
    assert cfg.load_from == name
    assert cfg.default_scope == 'mmagic_cm'
    assert denoiser.c_noise == ('edm' if name == ADM else 'adm')


@pytest.mark.parametrize('name', CIFAR10)
def test_networks_parameterizations_and_samplers_of_cifar10(name, data):
    cfg = load_config(name)
    kind = 'ddpmpp' if name.endswith('vp') else 'ncsnpp'
    classes = 'cond' if '-cond-' in name else 'uncond'
    layouts = json.loads((data / 'goldens/songunet_layouts.json').read_text())
    layout = layouts[f'cifar10_{kind}_{classes}']
    expected = layout['parameters'] | layout['buffers']
    if '_' in name:  # of the JAX code, which has no input for augmentation
        del expected['map_augment.weight']
    with torch.device('meta'):
        denoiser = MODELS.build(cfg.model.denoiser)
    found = {key: [*value.shape] for key, value in denoiser.network.state_dict().items()}
    assert found == expected
    dropout = {m.p for m in denoiser.modules() if isinstance(m, torch.nn.Dropout)}
    assert dropout == {0.13 if CIFAR10[name] == 'edm' else 0.0}
    assert denoiser.c_noise == 'edm'
    assert cfg.model.denoiser.parameterization == (CIFAR10[name] or 'consistency')
    sampler = DIFFUSION_SAMPLERS.build(cfg.model.sampler)
    assert sampler.num_evaluations == (35 if CIFAR10[name] == 'edm' else 1)


def test_edm_draws_imagenet_as_published():
    sampler = DIFFUSION_SAMPLERS.build(RELEASED[ADM].sampler)
    assert sampler.num_evaluations == 511
    churn = (sampler.s_churn, sampler.s_tmin, sampler.s_tmax, sampler.s_noise)
    assert churn == (40, 0.05, 50, 1.003)


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
        assert RELEASED['ct_cat256'].url in str(caught.value)
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


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """Sentences of the log."""
    sentences = []
    monkeypatch.setattr(released, 'print_log', lambda text, *_: sentences.append(text))
    released._say.cache_clear()
    return sentences


def test_a_licence_is_said_once_when_the_weights_are_read(cache, data, recorded, said):
    name = 'edm-cifar10-32x32-uncond-vp'
    pickle = (data / 'goldens/edm_pickle_tiny_ddpmpp.pkl').read_bytes()
    (cache / f'{name}.pkl').write_bytes(pickle)
    torch.save(recorded('cond').weights, cache / 'ct_cat256.pt')
    load_config(name)
    read_checkpoint('ct_cat256')
    assert said == []
    for path in (name, f'{name}.pkl', cache / f'{name}.pkl'):
        read_checkpoint(path)
    assert said == [f'The weights of {name} are under CC BY-NC-SA 4.0 ({RELEASED[name].url}).']


def test_a_pickle_in_the_cache_by_its_name(cache, data, goldens, monkeypatch):
    recorded, name = goldens('edm_pickle_tiny_ddpmpp'), 'edm-cifar10-32x32-uncond-vp'
    pickle = (data / 'goldens/edm_pickle_tiny_ddpmpp.pkl').read_bytes()
    (cache / f'{name}.pkl').write_bytes(pickle)
    with pytest.raises(InputError, match='does not fit'):  # the network of that name is larger
        init_model(name, device='cpu')
    own = Checkpoint(cache / f'{name}.pkl').sampling_config()
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: own)
    found = init_model(name, device='cpu').denoiser(recorded['x'], recorded['sigmas'])
    torch.testing.assert_close(found, recorded['denoised'], rtol=0, atol=2e-5 * 80)


@pytest.mark.parametrize('leaf', ['cd-lpips_8xb256-imagenet1k-64x64', 'ect_8xb16-imagenet1k-64x64'])
def test_edm_teaches(leaf, cache, data, goldens):
    """With the options in docs/training.md our leaves compute EDM's denoiser, and learn."""
    docs = (ROOT / 'docs/training.md').read_text()
    options = re.search(rf'{leaf}\.py \\\n +--cfg-options (.*{ADM}.*)', docs)[1]
    packed = (data / 'goldens/edm_pickle_tiny_adm.pkl.xz').read_bytes()
    (cache / f'{ADM}.pkl').write_bytes(lzma.decompress(packed))
    cfg = load_config(leaf)
    cfg.merge_from_dict(dict(option.split('=') for option in options.split()))
    small = Checkpoint(cache / f'{ADM}.pkl').sampling_config()
    cfg.model.denoiser.network = small.model.denoiser.network
    if leaf.startswith('cd'):
        cfg.model.objective.distance = 'l2'  # no VGG16 is needed
    model = MODELS.build(cfg.model)
    model.init_weights()
    recorded, teacher = goldens('edm_pickle_tiny_adm'), model.teacher or model.eval().denoiser
    with torch.no_grad():
        found = teacher(recorded['x'], recorded['sigmas'], recorded['labels'])
    scale = recorded['denoised'].abs().max().item()
    torch.testing.assert_close(found, recorded['denoised'], rtol=0, atol=2e-5 * scale)

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train().progress = TrainingProgress(seed=0, iteration=0, step=0, total_steps=10)
    optimizer = torch.optim.SGD(model.denoiser.parameters(), lr=1e-3)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    batch = dict(inputs=images, labels=torch.tensor([3, 7]))
    figures = model.train_step(batch, OptimWrapper(optimizer))
    assert 0 < figures['loss'] < torch.inf
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {name.split('.')[0] for name in moved} == {'denoiser'}
