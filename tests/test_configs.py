"""Every config file: what it says, and that it builds."""

import ast
import functools
import re
from pathlib import Path

import pytest
import torch
import yaml

from mmagic_cm import apis, datasets, engine  # noqa: F401  what configs name
from mmagic_cm.checkpoints import find_released
from mmagic_cm.models import ConsistencyModel
from mmagic_cm.registry import DATASETS, HOOKS, MODELS

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
FILES = sorted(CONFIGS.rglob('*.py'))
load_config = functools.cache(apis.load_config)
LEAVES = [path for path in FILES if '_base_' not in path.parts]


def parametrize(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: str(path.relative_to(CONFIGS)))


def leaf_values(value, path: str = '') -> list[tuple[str, object]]:
    """All plain values of a nested config with their paths."""
    if isinstance(value, dict):
        return [pair for key in value for pair in leaf_values(value[key], f'{path}.{key}')]
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in leaf_values(item, path)]
    return [(path, value)]


def test_there_are_leaves():
    names = {path.name for path in LEAVES}
    modes = ('edm', 'cd-l2', 'cd-lpips', 'ct', 'pd', 'ict', 'ect', 'cmt-ect', 'sct', 'scd', 'tcm')
    assert {f'{mode}_1xb96-digits-8x8.py' for mode in modes} <= names
    assert 'ect_1xb64-folder-64x64.py' in names


def test_every_leaf_of_the_paper_is_in_the_index():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    (path,) = index['Import']
    models = yaml.safe_load((ROOT / path).read_text())['Models']
    assert all((ROOT / model['Config']).stem == model['Name'] for model in models)
    own = {path.stem for path in LEAVES if {'digits', 'folder'} & set(path.stem.split('-'))}
    assert {model['Name'] for model in models} == {path.stem for path in LEAVES} - own
    for model in models:
        # A checkpoint is named where the config samples from one, and it is that config's own.
        named = load_config(ROOT / model['Config']).get('load_from')
        found = 'Weights' in model and find_released(model['Weights']).path.name
        assert (found or None) == named


@parametrize(FILES)
def test_no_file_imports_anything(path):
    # MMEngine 0.10.7 takes `import math` for a sign that the whole file is of its other style.
    imports = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imports == []


@parametrize(FILES)
def test_values_are_values(path):
    for name, value in leaf_values(load_config(path).to_dict()):
        if isinstance(value, str):
            assert not re.fullmatch(r'\s*[\d.eE+-]+(\s*,\s*[\d.eE+-]+)*\s*', value), name


@parametrize(LEAVES)
def test_leaves_are_short(path):
    assert len(path.read_text().splitlines()) <= 30


@parametrize(LEAVES)
def test_model_builds(path):
    cfg = load_config(path)
    # After MMagic's inferencer has run, bare names without it would be MMagic's.
    assert cfg.model._scope_ == 'mmagic_cm'
    assert cfg.default_scope == 'mmagic_cm'
    with torch.device('meta'):
        denoiser = MODELS.build(cfg.model.denoiser)
    model = MODELS.build({**cfg.model, 'denoiser': denoiser})
    assert isinstance(model, ConsistencyModel)
    assert (model.objective is not None) == ('train_cfg' in cfg)


@parametrize(LEAVES)
def test_name_says_what_is_inside(path):
    match = re.fullmatch(r'.+_(\d+)xb(\d+)-.*?(\d+)x\3', path.stem)
    assert match, path.stem
    cfg = load_config(path)
    assert cfg.model.denoiser.network.image_size == int(match[3])
    if 'train_cfg' in cfg:
        assert cfg.train_dataloader.batch_size == int(match[2])
        accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
        assert cfg.auto_scale_lr.base_batch_size == int(match[1]) * int(match[2]) * accumulated


@parametrize([path for path in LEAVES if 'digits' in path.name])
def test_data_and_hooks_build_and_fit_the_model(path):
    cfg = load_config(path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    image, network = dataset[0]['inputs'], cfg.model.denoiser.network
    assert image.dtype == torch.uint8
    assert image.shape == (network.in_channels, network.image_size, network.image_size)
    if network.num_classes is not None:
        assert network.num_classes == len(dataset.metainfo['classes'])
    hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert any(isinstance(hook, engine.CurriculumHook) for hook in hooks)
