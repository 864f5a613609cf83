"""Names and settings of UNet2DModel, and its own pictures from the same weights."""

import json

import pytest
import torch
from diffusers import ConsistencyModelPipeline, UNet2DModel

from mmagic_cm.apis import init_model
from mmagic_cm.checkpoints import released_model
from mmagic_cm.checkpoints.diffusers_layout import (
    check_unet_config,
    from_diffusers,
    is_diffusers,
    to_diffusers,
    unet_config,
)
from mmagic_cm.checkpoints.diffusers_pipeline import pipeline_settings
from mmagic_cm.checkpoints.writing import write_diffusers
from mmagic_cm.diffusion.samplers import MultistepSampler, OnestepSampler
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


def write_pipeline(denoiser, folder, sampler=None, num_scales=40, weights=None):
    """A folder; returns the arguments of the call that draws by the sampler."""
    settings = pipeline_settings(denoiser, sampler or OnestepSampler(), num_scales)
    network = denoiser.network
    write_diffusers(weights or network.state_dict(), network, settings.scheduler, folder)
    return settings.arguments


def draw_theirs(pipeline, latents, labels, timesteps):
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        batch_size=len(latents),
        class_labels=labels,
        timesteps=timesteps,
        latents=latents.clone(),
        generator=torch.Generator().manual_seed(5),
        output_type='pt',
    ).images
    return 2 * images - 1


def draw_ours(denoiser, latents, labels, ts, num_scales):
    generator = torch.Generator().manual_seed(5)
    sampler = MultistepSampler(ts=ts, num_scales=num_scales)
    with torch.inference_mode():
        return sampler(
            lambda x, sigma: denoiser(x, sigma, labels),
            latents * 80,
            lambda like: torch.randn(like.shape, generator=generator),
        )


@pytest.mark.parametrize(
    ('kind', 'saved_by'),
    [*((kind, 'us') for kind in NETWORKS), *((kind, 'them') for kind in [*NETWORKS][1:3])],
)
def test_pictures_are_those_of_diffusers(kind, saved_by, denoisers, tmp_path):
    denoiser = denoisers[kind]
    write_pipeline(denoiser, tmp_path / 'a', num_scales=201)
    pipeline = ConsistencyModelPipeline.from_pretrained(tmp_path / 'a')
    if saved_by == 'them':  # and read by us
        pipeline.save_pretrained(tmp_path / 'b')
        network = dict(type='ADMUNet', **SMALL, **NETWORKS[kind])
        cfg = dict(type='ConsistencyModel', denoiser=dict(type='KarrasDenoiser', network=network))
        denoiser = init_model(dict(model=cfg), tmp_path / 'b', 'cpu').denoiser
    latents = torch.randn(2, 3, 16, 16)
    labels = None if denoiser.network.num_classes is None else torch.tensor([0, 2])
    for ts in ((0, 200), (0, 106, 160, 200)):
        theirs = draw_theirs(pipeline, latents, labels, [*ts[-2::-1]])
        ours = draw_ours(denoiser, latents, labels, ts, 201)
        assert ours.std() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_another_order_of_the_heads_would_be_seen(denoisers, tmp_path):
    denoiser = denoisers['unconditional']
    weights = dict(denoiser.network.state_dict())
    for name in [name for name in weights if '.qkv.' in name]:
        split = weights[name].unflatten(0, (3, -1, 16))
        weights[name] = split.transpose(0, 1).flatten(0, 2).contiguous()
    write_pipeline(denoiser, tmp_path / 'a', weights=weights)
    pipeline = ConsistencyModelPipeline.from_pretrained(tmp_path / 'a')
    latents = torch.randn(2, 3, 16, 16)
    ours = draw_ours(denoiser, latents, None, (0, 39), 40)
    assert (ours - draw_theirs(pipeline, latents, None, [0])).abs().max() > 1e-2


def test_the_folder_is_complete(denoisers, tmp_path):
    denoiser = denoisers['one level']
    write_pipeline(denoiser, tmp_path / 'a', OnestepSampler(clip_denoised=False), 151)
    files = {str(p.relative_to(tmp_path / 'a')) for p in (tmp_path / 'a').rglob('*.*')}
    assert files == {
        'model_index.json',
        'scheduler/scheduler_config.json',
        'unet/config.json',
        'unet/diffusion_pytorch_model.safetensors',
    }
    scheduler = ConsistencyModelPipeline.from_pretrained(tmp_path / 'a').scheduler
    assert scheduler.config.num_train_timesteps == 151
    assert not scheduler.config.clip_denoised
    assert scheduler.config.sigma_max == 80


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(null_class=True), 'does not know "no class"'),
        (
            dict(num_head_channels=-1, num_heads=2, attention_resolutions=(16, 8)),
            r'one width .* has \[16, 32\]',
        ),
        (dict(channel_mult=(2, 2)), 'embeds the noise level in as many channels'),
    ],
)
def test_networks_that_unet2dmodel_lacks(changes, message):
    changed = {**SMALL, **NETWORKS['conditional, scale and shift'], **changes}
    with torch.device('meta'):
        network = MODELS.build(dict(type='ADMUNet', **changed))
    with pytest.raises(InputError, match=message):
        unet_config(network)


def test_other_networks_are_refused():
    with pytest.raises(InputError, match='cannot compute a Linear'):
        unet_config(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match=r'no place for extra'):
        to_diffusers(dict(extra=torch.ones(1)))


def test_settings_that_leave_no_trace_in_the_names(denoisers):
    network = denoisers['unconditional'].network
    right = unet_config(network)
    for harmless in (
        {},
        dict(act_fn='swish'),
        dict(attn_norm_num_groups=None),
        dict(dropout=0.1),
        dict(something_new=1),
    ):
        check_unet_config({**right, **harmless}, network)
    check_unet_config(json.loads(json.dumps(right)), network)
    for wrong in (
        dict(attention_head_dim=8),
        dict(norm_num_groups=16),
        dict(norm_eps=1e-6),
        dict(sample_size=32),
        dict(freq_shift=1),
        dict(time_embedding_type='fourier'),
        dict(center_input_sample=True),
        dict(act_fn='gelu'),
        dict(mid_block_scale_factor=2),
    ):
        with pytest.raises(InputError, match=f'{next(iter(wrong))} is .* instead of'):
            check_unet_config({**right, **wrong}, network)


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
