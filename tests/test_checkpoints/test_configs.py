"""The config inside of a file: values come out, code does not run."""

import math
from pathlib import Path

import pytest
import torch
from mmengine import Config

from mmagic_cm.apis import init_model, load_config
from mmagic_cm.checkpoints import config_inside, sampling_config
from mmagic_cm.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs/consistency_models'


def inside(text) -> Config:
    return config_inside(dict(meta=dict(cfg=text)), 'x.pth')


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*digits*.py')), ids=lambda path: path.stem)
def test_every_value_of_a_config_comes_back(path):
    cfg = load_config(path)
    assert inside(cfg.pretty_text).to_dict() == cfg.to_dict()


def test_kinds_of_values():
    text = "a = dict(b=-1.5, c=(1, 'x'), d=[None, True], e={'f': 1e-5, 2: b'y'})\nmost = inf"
    found = inside(text).to_dict()
    assert found['most'] == math.inf
    assert found['a'] == dict(b=-1.5, c=(1, 'x'), d=[None, True], e={'f': 1e-5, 2: b'y'})


@pytest.mark.parametrize('checkpoint', [{}, dict(meta=5), dict(meta={}), dict(meta=dict(cfg=5))])
def test_files_without_one(checkpoint):
    assert config_inside(checkpoint, 'x.pth') is None


@pytest.mark.parametrize(
    'text',
    [
        "a = open('marker', 'w')",
        "a = __import__('os').system('touch marker')",
        "import os\na = os.system('touch marker')",
        'exec(\'open("marker", "w")\')',
        "a = [open('marker', 'w') for _ in 'x']",
        "a = (lambda: open('marker', 'w'))()",
        "a = f\"{open('marker', 'w')}\"",
        "a = dict(open('marker', 'w'))",
        'a = dict(**{1: 2})',
        'a = {**{}}',
        'a, b = 1, 2',
        'a = b',
        "a = -'x'",
        'a = {[]: 1}',
        'a = ',
        'a = ' + '[' * 5000,
        'a = ' + '-' * 100000 + '1',
        "filename = 'x'",
        'a = "\0"',
    ],
)
def test_what_is_more_than_values_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'The config inside x\.pth cannot be read') as caught:
        inside(text)
    assert '\n' not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


def foreign(cfg, place: str, name: str) -> Config:
    cfg = Config(cfg.to_dict())
    cfg.merge_from_dict({place: name})
    return cfg


@pytest.mark.parametrize(
    ('place', 'name'),
    [
        ('model.type', 'os.system'),
        ('model._scope_', 'os'),
        ('model.denoiser.type', 'subprocess.check_call'),
        ('model.denoiser.network.type', 'builtins.exec'),
        ('model.denoiser.network.norm_groups', 'os.getcwd'),
        ('model.denoiser.parameterization', 'antigravity'),
        ('model.sampler', 'os.getcwd'),
        ('model.data_preprocessor', dict(type='torch.load')),
        ('model.sampler.ts', ['os.getcwd']),
    ],
)
def test_foreign_names_are_refused(place, name, recorded, tmp_path):
    # MMEngine's registries would import and call them.
    cfg = foreign(recorded('cond').cfg, place, name)
    torch.save(dict(state_dict={}, meta=dict(cfg=cfg.pretty_text)), tmp_path / 'x.pth')
    with pytest.raises(InputError, match=r"The config inside .*x\.pth is refused: it names '"):
        init_model(tmp_path / 'x.pth', 'auto', 'cpu')


@pytest.mark.parametrize(
    ('place', 'number'),
    [
        ('denoiser.network.num_res_blocks', 10**8),
        ('denoiser.network.num_res_blocks', 1000),
        ('denoiser.network.num_classes', 10**12),
        ('sampler', dict(type='MultistepSampler', ts=(0, 1), num_scales=10**9)),
    ],
)
def test_a_network_larger_than_the_file_is_not_built(place, number, recorded, tmp_path):
    cfg = foreign(recorded('cond').cfg, f'model.{place}', number)
    weights = {str(i): torch.ones(1) for i in range(300)}
    torch.save(dict(state_dict=weights, meta=dict(cfg=cfg.pretty_text)), tmp_path / 'x.pth')
    with pytest.raises(
        InputError, match=r'The config inside .*x\.pth is refused: num_\w+ is 1[0,]+\.'
    ):
        load_config(tmp_path / 'x.pth')


def test_a_file_that_holds_none(tmp_path):
    torch.save(dict(a=torch.ones(1)), tmp_path / 'x.pth')
    with pytest.raises(InputError, match=r'x\.pth'):
        load_config(tmp_path / 'x.pth')
    torch.save(dict(meta=dict(cfg='a = 1')), tmp_path / 'y.pth')
    with pytest.raises(InputError, match="'model'"):
        load_config(tmp_path / 'y.pth')


def test_what_sampling_needs_of_a_config():
    cfg = sampling_config(load_config(CONFIGS / 'cd-l2_8xb256-imagenet1k-64x64.py'))
    assert cfg.model.keys() == {'type', '_scope_', 'denoiser', 'sampler'}
    assert cfg.keys() == {'default_scope', 'custom_imports', 'model'}


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        ('c_noise', "c_noise 'edm', and this model says 'adm'"),
        ('parameterization', 'of the edm parameterization'),
    ],
)
def test_a_file_that_says_otherwise_than_the_given_config(change, word, recorded, tmp_path):
    said = recorded('cond').source().config
    said.model.denoiser[change] = 'edm'
    weights = {f'denoiser.network.{k}': v for k, v in recorded('cond').weights.items()}
    for text in (said.pretty_text, 'model = neither(values, nor=names)', "model = dict(type='x')"):
        torch.save(dict(state_dict=weights, meta=dict(cfg=text)), tmp_path / 'x.pth')
        if text == said.pretty_text:
            with pytest.raises(InputError, match=word):
                init_model(recorded('cond').cfg, tmp_path / 'x.pth', 'cpu')
        else:  # what cannot be read, or is not there, says nothing
            expected = recorded('cond', 'edm')
            expected.assert_gives_the_recorded(init_model(expected.cfg, tmp_path / 'x.pth', 'cpu'))
