"""Names and settings of UNet2DModel; ``test_diffusers_pipeline.py`` has its pictures."""

import json

import pytest
import torch
from diffusers import UNet2DModel

from mmagic_cm.checkpoints import released_model
from mmagic_cm.checkpoints.diffusers_layout import (
    check_unet_config,
    from_diffusers,
    is_diffusers,
    to_diffusers,
    unet_config,
)
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS

SMALL = dict(image_size=16, model_channels=32, num_res_blocks=2, num_head_channels=16)
NETWORKS = {
    'conditional, scale and shift': dict(
        channel_mult=(1, 2), attention_resolutions=(8,), num_classes=7
    ),
    'unconditional': dict(
        channel_mult=(1, 2, 2), attention_resolutions=(16, 4), use_scale_shift_norm=False
    ),
    'resampled by convolutions': dict(
        channel_mult=(1, 2), attention_resolutions=(8,), resblock_updown=False, num_classes=3
    ),
    'one level': dict(channel_mult=(1,), attention_resolutions=(), norm_groups=16),
}
EVERY = pytest.mark.parametrize('kind', NETWORKS)


@pytest.fixture(scope='module')
def denoisers(fill):
    def build(kind):
        network = dict(type='ADMUNet', **SMALL, **NETWORKS[kind])
        denoiser = MODELS.build(dict(type='KarrasDenoiser', network=network)).eval()
        fill(denoiser.network)
        return denoiser

    return {kind: build(kind) for kind in NETWORKS}


@EVERY
def test_there_and_back_nothing_changes(kind, denoisers):
    weights = denoisers[kind].network.state_dict()
    theirs = to_diffusers(weights)
    assert is_diffusers(theirs)
    assert not is_diffusers(weights)
    back = dict(theirs)
    from_diffusers(back)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@EVERY
def test_names_and_shapes_are_diffusers_own(kind, denoisers):
    network = denoisers[kind].network
    theirs = UNet2DModel(**unet_config(network)).state_dict()
    found = to_diffusers(network.state_dict())
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize('name', ['cd_imagenet64_l2', 'ct_cat256'])
def test_released_networks_are_those_of_the_released_folders(name):
    # What diffusers' own conversion of these files writes.
    with torch.device('meta'):
        config = unet_config(MODELS.build(released_model(name).config().model.denoiser).network)
        theirs = UNet2DModel(**config).state_dict()
    assert config['attention_head_dim'] == 64
    assert config['down_block_types'].count('AttnDownBlock2D') == 3
    if name == 'cd_imagenet64_l2':
        assert config['block_out_channels'] == [192, 384, 576, 768]
        assert config['layers_per_block'] == 3
        assert config['num_class_embeds'] == 1000
        assert config['resnet_time_scale_shift'] == 'scale_shift'
    else:
        assert config['block_out_channels'] == [256, 256, 512, 512, 1024, 1024]
        assert config['layers_per_block'] == 2
        assert config['num_class_embeds'] is None
        assert config['resnet_time_scale_shift'] == 'default'
    assert sum(weight.numel() for weight in theirs.values()) == (
        295_899_267 if name == 'cd_imagenet64_l2' else 526_304_771
    )


@pytest.mark.parametrize(
    'changes',
    [
        dict(null_class=True),
        dict(num_head_channels=-1, num_heads=2, attention_resolutions=(16, 8)),
        dict(channel_mult=(2, 2)),
    ],
)
def test_networks_that_unet2dmodel_lacks(changes):
    changed = {**SMALL, **NETWORKS['conditional, scale and shift'], **changes}
    with torch.device('meta'):
        network = MODELS.build(dict(type='ADMUNet', **changed))
    with pytest.raises(InputError, match='UNet2DModel'):
        unet_config(network)


def test_other_networks_are_refused():
    with pytest.raises(InputError, match='Linear'):
        unet_config(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match='extra'):
        to_diffusers(dict(extra=torch.ones(1)))


def test_settings_that_leave_no_trace_in_the_names(denoisers):
    network = denoisers['unconditional'].network
    right = unet_config(network)
    harmless = dict(act_fn='swish', attn_norm_num_groups=None, dropout=0.1, something_new=1)
    check_unet_config(json.loads(json.dumps({**right, **harmless})), network)
    wrong = dict(attention_head_dim=8, norm_num_groups=16, norm_eps=1e-6, sample_size=32)
    wrong |= dict(freq_shift=1, time_embedding_type='fourier', center_input_sample=True)
    wrong |= dict(act_fn='gelu', mid_block_scale_factor=2)
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            check_unet_config({**right, name: value}, network)


def test_odd_names_neither_crash_nor_vanish():
    weights = {
        'down_blocks.99999999999.resnets.0.norm1.weight': torch.ones(1),
        'up_blocks.0.resnets.0.norm1.weight': 'text',
        'up_blocks.0.attentions.0.to_q.weight': torch.ones(2, 2),
        'up_blocks.0.attentions.0.to_k.weight': torch.ones(3, 2),
        'up_blocks.0.attentions.0.to_v.weight': torch.ones(2, 2),
        'conv_in.weight': torch.ones(1),
        'input_blocks.0.0.weight': torch.zeros(1),
    }
    before = set(weights)
    from_diffusers(weights)
    assert set(weights) == before
