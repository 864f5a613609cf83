"""A checkpoint taken in whole: which weights, which config, which grid."""

import json

import pytest
import torch

from mmagic_cm.apis import init_model
from mmagic_cm.checkpoints.conversion import read_source
from mmagic_cm.checkpoints.released import ReleasedModel
from mmagic_cm.errors import InputError


def first(weights: dict) -> float:
    return float(weights['out.2.bias'][0])


@pytest.mark.parametrize(
    ('ema', 'added', 'rate'), [('auto', 0, 0.9999), (0.9, 1, 0.9), (None, 1, None)]
)
def test_which_weights_of_a_run(ema, added, rate, written, recorded):
    source = read_source(written('training'), ema)
    assert first(source.weights) == pytest.approx(first(recorded('cond').weights) + added)
    assert source.ema == rate
    assert source.iteration == 100
    assert source.weights.keys() == recorded('cond').weights.keys()  # no target network


@pytest.mark.parametrize('layout', ['training', 'published.safetensors', 'published.pth'])
def test_the_config_inside(layout, written, recorded):
    source = read_source(written(layout))
    assert source.config.model.denoiser == recorded('cond').cfg.model.denoiser
    assert next(source.denoiser.parameters()).is_meta


def test_the_config_of_the_released_name(written, recorded, monkeypatch):
    monkeypatch.setattr(ReleasedModel, 'config', lambda self: recorded('cond').cfg)
    path = written('openai')
    assert read_source(path).config is None
    assert read_source(path.rename(path.with_name('ct_cat256.pt'))).config is not None


def test_a_file_that_does_not_say_what_it_is(written, tmp_path):
    source = read_source(written('openai'))
    assert source.denoiser is None
    for write in (source.write_ours, source.write_diffusers):
        with pytest.raises(InputError, match='--config'):
            write(tmp_path / 'x')


def test_a_folder_of_diffusers_says_what_it_is(written, recorded, tmp_path):
    read_source(written('diffusers')).write_ours(tmp_path / 'x.pth')
    recorded('cond').assert_gives_the_recorded(init_model(tmp_path / 'x.pth', device='cpu'))


def test_the_config_of_another_model(written, recorded):
    for layout in ('openai', 'diffusers', 'training'):
        with pytest.raises(InputError, match='does not fit this model'):
            read_source(written(layout), config=recorded('uncond').cfg)


def test_settings_of_a_unet2dmodel_are_looked_at(written, recorded):
    cfg = recorded('cond').source().config
    cfg.merge_from_dict({'model.denoiser.network.num_head_channels': 32})
    with pytest.raises(InputError, match='attention_head_dim'):
        read_source(written('diffusers'), config=cfg)


def test_a_file_without_weights(tmp_path):
    torch.save(dict(a=torch.ones(1)), tmp_path / 'x.pt')
    with pytest.raises(InputError, match=r'x\.pt'):
        read_source(tmp_path / 'x.pt')


def test_a_hostile_config_inside(recorded, tmp_path):
    cfg = recorded('cond').source().config
    cfg.merge_from_dict({'model.denoiser.type': 'os.system'})
    torch.save(dict(state_dict={}, meta=dict(cfg=cfg.pretty_text)), tmp_path / 'x.pth')
    with pytest.raises(InputError, match=r"refused: it names 'os\.system'"):
        read_source(tmp_path / 'x.pth')


@pytest.mark.parametrize(
    ('sampler', 'levels'),
    [
        (dict(type='MultistepSampler', ts=(0, 106, 200), num_scales=201), 201),
        (dict(type='MultistepSampler', ts=(0, 22, 39)), 40),
        (dict(type='OnestepSampler'), 40),
        (None, 40),
    ],
)
def test_the_grid_is_the_sampler_s(sampler, levels, recorded, tmp_path):
    source = recorded('cond').source()
    del source.config.model['sampler']
    if sampler:
        source.config.model.sampler = sampler
    source.write_diffusers(tmp_path / 'x')
    scheduler = json.loads((tmp_path / 'x/scheduler/scheduler_config.json').read_text())
    assert scheduler['num_train_timesteps'] == levels
