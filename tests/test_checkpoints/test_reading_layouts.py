"""Every layout wherever a path is, and files that are broken: one sentence, nothing loaded."""

import functools
import json
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from safetensors.torch import load_file, save_file

from mmagic_cm.apis import init_model
from mmagic_cm.checkpoints import (
    checkpoint,
    is_checkpoint,
    read_checkpoint,
    register_safe_loaders,
)
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS

LAYOUTS = (
    *('openai', 'training', 'published.safetensors', 'published.pth'),
    *('diffusers', 'unet', 'file'),
)
NAMES = ('cond', 'uncond', 'plain')
# A UNet2DModel cannot have heads of several widths, as 'plain' has.
CASES = [(x, n) for x in LAYOUTS for n in NAMES if n != 'plain' or x in LAYOUTS[:4]]


@pytest.mark.parametrize(('layout', 'name'), CASES)
def test_every_layout_gives_the_reference_s_outputs(layout, name, written, recorded):
    expected = recorded(name)
    expected.assert_gives_the_recorded(init_model(expected.cfg, written(layout, name), 'cpu'))


@pytest.mark.parametrize('layout', ['published.safetensors', 'published.pth', 'training'])
def test_a_checkpoint_with_its_config_inside_is_enough(layout, written, recorded):
    with mock.patch.object(checkpoint, 'read_checkpoint', wraps=read_checkpoint) as read:
        model = init_model(written(layout), device='cpu')
    recorded('cond').assert_gives_the_recorded(model)
    assert model.sampler.num_evaluations == 2
    assert read.call_count == 1


@pytest.mark.parametrize('layout', LAYOUTS)
def test_mmengine_s_loader_reads_every_layout(layout, written, recorded):
    register_safe_loaders()
    expected = recorded('cond')
    model = MODELS.build(expected.cfg.model).eval()
    path = str(written(layout))
    mmengine_checkpoint.load_checkpoint(model, path, 'cpu', strict=False, logger='silent')
    if layout == 'training':  # it takes the online network, not the EMA
        name = 'out.2.weight'
        assert torch.equal(model.denoiser.network.state_dict()[name], expected.weights[name] + 1)
    else:
        expected.assert_gives_the_recorded(model)


@pytest.mark.parametrize('layout', ['openai', 'training', 'diffusers'])
def test_a_teacher_and_a_start_in_every_layout(layout, written, recorded):
    path, expected = str(written(layout)), recorded('cond')
    cfg = dict(
        expected.cfg.model,
        objective=dict(type='ConsistencyDistillation'),
        teacher=dict(checkpoint=path),
        init_from=path,
    )
    model = MODELS.build(cfg)
    model.init_weights()
    recorded('cond', 'edm').assert_gives_the_recorded(model.teacher)
    expected.assert_gives_the_recorded(model.eval())
    pairs = zip(model.target.parameters(), model.denoiser.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_address_is_a_path(server, written, recorded):
    folder, address = server
    shutil.copy(written('published.safetensors'), folder / 'x.safetensors')
    model = init_model(recorded('cond').cfg, f'{address}/x.safetensors', 'cpu')
    recorded('cond').assert_gives_the_recorded(model)
    assert (folder.parent / 'cache/checkpoints/x.safetensors').is_file()


@pytest.mark.parametrize('ending', ['.bin', '.fp16.safetensors'])
def test_other_files_of_diffusers(ending, written, recorded):
    folder, expected = written('diffusers'), recorded('cond')
    file = folder / 'unet/diffusion_pytorch_model.safetensors'
    if ending == '.bin':
        torch.save(load_file(file), file.with_name('diffusion_pytorch_model.bin'))
        file.unlink()
    else:
        file.rename(file.with_name(f'diffusion_pytorch_model{ending}'))
    expected.assert_gives_the_recorded(init_model(expected.cfg, folder, 'cpu'))


@pytest.mark.parametrize('layout', ['openai', 'training', 'published.safetensors'])
def test_without_a_suffix_it_is_still_a_checkpoint(layout, written, recorded, tmp_path):
    path = written(layout).rename(tmp_path / 'checkpoint_80')
    assert is_checkpoint(path)
    if layout != 'openai':  # which does not say what it is of
        recorded('cond').assert_gives_the_recorded(init_model(path, device='cpu'))


@pytest.mark.parametrize('saved', ['legacy', 'text', 'arrays', 'nothing'])
def test_what_else_is_a_checkpoint(saved, tmp_path):
    path = tmp_path / 'file'
    with open(path, 'wb') as file:
        if saved == 'legacy':
            torch.save({}, file, _use_new_zipfile_serialization=False)
        elif saved == 'text':
            file.write(b'model = dict()\n')
        elif saved == 'arrays':
            np.savez(file, np.zeros(1))
    assert is_checkpoint(path) == (saved == 'legacy')


def test_the_kind_of_file_is_told_by_its_content(written, recorded):
    expected = recorded('cond')
    for layout, suffix in (('published.safetensors', '.pt'), ('openai', '.ckpt')):
        path = written(layout)
        expected.assert_gives_the_recorded(
            init_model(expected.cfg, path.rename(path.with_suffix(suffix)), 'cpu')
        )


# --- what is refused, in one sentence, with nothing loaded and nothing run ---


def spoil(path, weights):
    """A diffusers folder whose weights are others."""
    save_file(weights, path / 'unet/diffusion_pytorch_model.safetensors')


def change_config(path, **settings):
    file = path / 'unet/config.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def lose(path, *names, **more):
    weights = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in weights.items() if k not in names} | more, path)


def flatten_qkv(path):
    weights = torch.load(path, weights_only=True)
    torch.save({k: v[..., 0] if 'qkv.weight' in k else v for k, v in weights.items()}, path)


def header(path, length, text):
    path.write_bytes(length.to_bytes(8, 'little') + text)


FILE = 'published.safetensors'
UNET = 'unet/diffusion_pytorch_model.safetensors'
BEYOND = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'
BROKEN = {
    'cut short': (FILE, lambda p: cut(p, 0.7), FILE),
    'cut in its header': (FILE, lambda p: cut(p, 0.001), FILE),
    'a header of nonsense': (FILE, lambda p: header(p, 9, b'{"a": 1..'), FILE),
    'a header of 9 exabytes': (FILE, lambda p: header(p, 2**63, b'{}'), FILE),
    'tensors beyond the file': (FILE, lambda p: header(p, 56, BEYOND.ljust(56)), FILE),
    'a missing key': ('openai', lambda p: lose(p, 'out.2.bias'), 'out.2.bias'),
    'an extra key': ('openai', lambda p: lose(p, extra=torch.ones(1)), 'extra'),
    'another order of heads': ('openai', flatten_qkv, 'qkv.weight'),
    'no weights': ('diffusers', lambda p: shutil.rmtree(p / 'unet'), 'diffusers'),
    'no JSON': ('diffusers', lambda p: (p / 'unet/config.json').write_text('{'), 'config.json'),
    'another class of diffusers': (
        'diffusers',
        lambda p: change_config(p, _class_name='UNet2DConditionModel'),
        'UNet2DConditionModel',
    ),
    'heads of another width': (
        'diffusers',
        lambda p: change_config(p, attention_head_dim=32),
        'attention_head_dim',
    ),
    'odd shapes': (
        'diffusers',
        lambda p: spoil(p, {k: v.reshape(-1) for k, v in load_file(p / UNET).items()}),
        'time_embed.0.weight',
    ),
}


@pytest.mark.parametrize('case', BROKEN)
def test_broken_files_are_refused_and_nothing_is_loaded(case, written, recorded):
    layout, make, name = BROKEN[case]
    path, cfg = written(layout), recorded('cond').cfg
    make(path)
    model = MODELS.build(cfg.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for load in (model.load_weights, functools.partial(load_strictly_not, model)):
        with pytest.raises(InputError, match=name) as caught:
            load(str(path))
        assert '\n' not in str(caught.value)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def load_strictly_not(model, path):
    register_safe_loaders()
    mmengine_checkpoint.load_checkpoint(model, path, 'cpu', strict=False, logger='silent')
