"""diffusers' own pipeline against ours: the same pictures, from folders of either."""

import json

import pytest
import torch
from diffusers import ConsistencyModelPipeline
from safetensors.torch import load_file, save_file

from mmagic_cm.apis import init_model, load_config
from mmagic_cm.checkpoints.diffusers_pipeline import pipeline_settings
from mmagic_cm.checkpoints.writing import write_diffusers
from mmagic_cm.diffusion.samplers import HeunSampler, MultistepSampler, OnestepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.models.denoiser import ConsistencyParameterization
from mmagic_cm.registry import DIFFUSION_SAMPLERS, MODELS
from mmagic_cm.sampling.choice import choose_sampler

NETWORK = dict(
    type='ADMUNet',
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    num_head_channels=16,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_classes=7,
)
OTHER_NETWORKS = {
    'unconditional': dict(
        channel_mult=(1, 2, 2),
        num_res_blocks=2,
        attention_resolutions=(16, 4),
        num_classes=None,
        use_scale_shift_norm=False,
    ),
    'resampled by convolutions': dict(resblock_updown=False),
    'one level': dict(channel_mult=(1,), attention_resolutions=(), norm_groups=16),
}
SAMPLERS = {
    'one step': dict(type='OnestepSampler'),
    'from another level': dict(type='OnestepSampler', sigma_max=5),
    'the paper': dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40),
    'ECT': dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
    'three steps': dict(type='MultistepSampler', sigmas=(80.0, 6.3, 0.4)),
    'another grid': dict(type='MultistepSampler', ts=(0, 4, 9), num_scales=10, rho=5.0),
}
LABELS = torch.tensor([0, 2])


@pytest.fixture(scope='module')
def make_denoiser(fill):
    def make(parameterization, network=None, **settings):
        cfg = dict(type='KarrasDenoiser', parameterization=parameterization)
        network = {**NETWORK, **(network or {})}
        denoiser = MODELS.build(dict(cfg, network=network, **settings)).eval()
        fill(denoiser.network)
        return denoiser

    return make


def export(denoiser, sampler, folder):
    settings = pipeline_settings(denoiser, sampler)
    network = denoiser.network
    write_diffusers(network.state_dict(), network, settings.scheduler, folder)
    return settings


def theirs(folder, arguments, latents, labels=LABELS):
    """Grey levels, by the call that was said."""
    pipeline = ConsistencyModelPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        batch_size=2,
        class_labels=labels,
        latents=latents.clone(),
        generator=torch.Generator().manual_seed(5),
        output_type='pt',
        **eval(f'dict({arguments})'),  # as its reader types it
    ).images
    return 255 * images


def ours(denoiser, sampler, latents, labels=LABELS):
    noise = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        images = sampler(
            lambda x, sigma: denoiser(x, sigma, labels),
            latents * sampler.sigma_max,
            lambda like: torch.randn(like.shape, generator=noise),
        )
    return (images + 1) * 127.5


@pytest.mark.parametrize('kind', SAMPLERS)
@pytest.mark.parametrize('parameterization', ['edm', 'consistency'])
def test_the_pipeline_draws_the_same(parameterization, kind, make_denoiser, tmp_path):
    denoiser = make_denoiser(parameterization)
    sampler = DIFFUSION_SAMPLERS.build(SAMPLERS[kind])
    settings = export(denoiser, sampler, tmp_path / 'a')
    assert settings.scheduler['sigma_min'] == (0 if parameterization == 'edm' else 0.002)
    latents = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = theirs(tmp_path / 'a', settings.arguments, latents)
    expected = ours(denoiser, sampler, latents)
    assert expected.std() > 10
    # The noise that three steps add is that of sigma_min, which in EDM's scalings is 0.
    rough = 'but for' in settings.said
    assert rough == (kind == 'three steps' and parameterization == 'edm')
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 if rough else 0.002)


@pytest.mark.parametrize('kind', OTHER_NETWORKS)
def test_other_networks_draw_the_same(kind, make_denoiser, tmp_path):
    denoiser = make_denoiser('consistency', OTHER_NETWORKS[kind])
    sampler = DIFFUSION_SAMPLERS.build(SAMPLERS['the paper'])
    settings = export(denoiser, sampler, tmp_path / 'a')
    labels = LABELS if denoiser.network.num_classes else None
    latents = torch.randn(2, 3, 16, 16)
    found = theirs(tmp_path / 'a', settings.arguments, latents, labels)
    expected = ours(denoiser, sampler, latents, labels)
    assert expected.std() > 10
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    read = init_model(tmp_path / 'a', device='cpu').denoiser
    torch.testing.assert_close(ours(read, sampler, latents, labels), expected, rtol=0, atol=0.01)
    # With another order of the heads, which has the same shapes, the pictures are others.
    weights = denoiser.network.state_dict()
    attends = [name for name in weights if '.qkv.' in name]
    for name in attends:
        weights[name] = weights[name].unflatten(0, (3, -1, 16)).transpose(0, 1).flatten(0, 2)
    denoiser.network.load_state_dict(weights)
    export(denoiser, sampler, tmp_path / 'b')
    found = theirs(tmp_path / 'b', settings.arguments, latents, labels)
    assert not attends or (found - expected).abs().max() > 1


def test_a_grid_that_has_the_levels_stays(make_denoiser):
    sampler = MultistepSampler(ts=(0, 106, 200), num_scales=201)
    settings = pipeline_settings(make_denoiser('consistency'), sampler, 201)
    assert settings.scheduler['num_train_timesteps'] == 201
    assert settings.arguments == 'num_inference_steps=None, timesteps=[106, 0]'


def test_a_sampler_that_the_pipeline_does_not_know(make_denoiser):
    settings = pipeline_settings(make_denoiser('edm'), HeunSampler(num_steps=18))
    assert settings.arguments == 'num_inference_steps=1'
    assert 'knows no HeunSampler' in settings.said


def test_a_parameterization_counts_by_what_it_computes(make_denoiser):
    class Mine(ConsistencyParameterization):
        pass

    class Other(ConsistencyParameterization):
        def c_in(self, sigma):
            return 1 / sigma

    denoiser = make_denoiser('consistency')
    denoiser.parameterization = Mine()
    assert pipeline_settings(denoiser, OnestepSampler()).scheduler['sigma_min'] == 0.002
    denoiser.parameterization = Other()
    with pytest.raises(InputError, match='Other'):
        pipeline_settings(denoiser, OnestepSampler())


# --- folders that are read without a config ---


@pytest.mark.parametrize('parameterization', ['edm', 'consistency'])
def test_a_folder_says_what_it_is(parameterization, make_denoiser, tmp_path):
    denoiser = make_denoiser(parameterization, sigma_data=0.4, rho=6.0)
    export(denoiser, OnestepSampler(clip_denoised=False), tmp_path / 'a')
    # As diffusers itself saves it.
    ConsistencyModelPipeline.from_pretrained(tmp_path / 'a').save_pretrained(tmp_path / 'b')
    latents = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for place in ('a', 'b', 'a/unet', 'a/unet/diffusion_pytorch_model.safetensors'):
        model = init_model(tmp_path / place, device='cpu')
        assert type(model.denoiser.parameterization) is type(denoiser.parameterization)
        assert not model.sampler.clip_denoised
        assert model.sampler.num_evaluations == 1
        expected = ours(denoiser, OnestepSampler(clip_denoised=False), latents)
        found = ours(model.denoiser, model.sampler, latents)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.002)


@pytest.mark.parametrize('parameterization', ['edm', 'consistency'])
def test_timesteps_count_the_folder_s_grid(parameterization, make_denoiser, tmp_path):
    denoiser = make_denoiser(parameterization)
    export(denoiser, OnestepSampler(), tmp_path / 'a')
    config = load_config(tmp_path / 'a')
    sampler = choose_sampler(config.model.sampler, timesteps=(22, 0))
    latents = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = ours(denoiser, DIFFUSION_SAMPLERS.build(sampler), latents)
    arguments = 'num_inference_steps=None, timesteps=[22, 0]'
    expected = theirs(tmp_path / 'a', arguments, latents)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.002)


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ('file', 'settings'),
    [
        ('scheduler/scheduler_config.json', dict(_class_name='DDPMScheduler')),
        ('scheduler/scheduler_config.json', dict(s_noise=1.1)),
        ('scheduler/scheduler_config.json', dict(rho='seven')),
        ('unet/config.json', dict(block_out_channels=[])),
        ('unet/config.json', dict(act_fn='gelu')),
        ('unet/config.json', dict(layers_per_block=2)),
    ],
)
def test_folders_of_something_else(file, settings, make_denoiser, tmp_path):
    export(make_denoiser('edm'), OnestepSampler(), tmp_path / 'a')
    change(tmp_path / 'a' / file, **settings)
    with pytest.raises(InputError, match=str(tmp_path / 'a')):
        init_model(tmp_path / 'a', device='cpu')


@pytest.mark.parametrize('variant', ['', '.fp16'])
def test_weights_in_several_files(variant, make_denoiser, tmp_path):
    denoiser = make_denoiser('edm')
    export(denoiser, OnestepSampler(), tmp_path / 'a')
    unet = tmp_path / 'a/unet'
    whole = unet / 'diffusion_pytorch_model.safetensors'
    weights = load_file(whole)
    shards = [f'diffusion_pytorch_model-0000{i}-of-00002.safetensors' for i in (1, 2)]
    places = {name: shards[i % 2] for i, name in enumerate(weights)}
    for shard in shards:
        save_file({name: weights[name] for name in weights if places[name] == shard}, unet / shard)
    whole.unlink()
    index = unet / f'diffusion_pytorch_model.safetensors.index{variant}.json'
    index.write_text(json.dumps(dict(metadata={}, weight_map=places)))
    for place in (tmp_path / 'a', unet):
        found = init_model(place, device='cpu').denoiser.network.state_dict()
        expected = denoiser.network.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    index.write_text('{}')
    with pytest.raises(InputError, match=index.name):
        init_model(tmp_path / 'a', device='cpu')
    for shard in ('../../other.safetensors', 'nowhere.safetensors', shards[0]):
        index.write_text(json.dumps(dict(weight_map={'a': shard})))
        with pytest.raises(InputError, match=str(tmp_path / 'a')):
            init_model(tmp_path / 'a', device='cpu')
