"""`init_model` and `generate`, as a user calls them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from torch import nn

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.diffusion.samplers import HeunSampler, OnestepSampler
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS


@pytest.fixture
def config(tiny_config):
    return dict(model=tiny_config())


def same_weights(model, other):
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- init_model ---


@pytest.mark.parametrize('kind', ['path', 'text', 'Config', 'dict'])
def test_a_config_in_all_its_forms(kind, config, tmp_path):
    path = tmp_path / 'tiny.py'
    Config(config).dump(path)
    given = {'path': path, 'text': str(path), 'Config': Config(config), 'dict': config}[kind]
    model = init_model(given, device='cpu')
    assert model.image_shape == (1, 8, 8)
    assert not model.training
    assert model.precision == 'fp32'


def test_what_only_training_needs_is_not_built(tiny_config):
    model = init_model(
        dict(
            model=tiny_config(objective=dict(type='ConsistencyTraining'), init_from='nowhere.pth')
        ),
        device='cpu',
    )
    assert model.objective is None
    assert model.target is None


@pytest.mark.parametrize('layout', ['ours', 'released'])
@pytest.mark.parametrize('auto', [True, False])
def test_a_checkpoint(layout, auto, config, build_model, tmp_path):
    other = build_model(seed=1)
    path = tmp_path / 'weights.pt'
    torch.save((other if layout == 'ours' else other.denoiser.network).state_dict(), path)
    if auto:
        config['load_from'] = str(path)
    model = init_model(config, 'auto' if auto else path, device='cpu')
    assert same_weights(model, other)
    assert next(model.denoiser.network.out.parameters()).is_contiguous()
    conv = model.denoiser.network.out[2].weight
    assert conv.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(('ema', 'seed'), [('auto', 3), (0.999, 3), (0.9, 2), (None, 1)])
def test_which_weights_of_a_run(ema, seed, config, build_model, tmp_path):
    online, short, long = (build_model(seed=seed) for seed in (1, 2, 3))
    emas = {'0.9': short.denoiser.state_dict(), '0.999': long.denoiser.state_dict()}
    torch.save(dict(state_dict=online.state_dict(), emas=emas), tmp_path / 'run.pth')
    model = init_model(config, tmp_path / 'run.pth', device='cpu', ema=ema)
    assert same_weights(model, build_model(seed=seed))


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(config={}), 'model'),
        (dict(precision='bf6'), "'bf16'"),
        (dict(precision='fp16'), 'GPU'),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth'),
        (dict(checkpoint='auto'), 'load_from'),
        (dict(device='toaster'), 'toaster'),
    ],
)
def test_bad_arguments(arguments, match, config):
    with pytest.raises(InputError, match=match):
        init_model(**{'config': config, 'device': 'cpu', **arguments})


@pytest.mark.parametrize('text', ['model = dict(', 'model = modle'])
def test_unreadable_config(text, tmp_path):
    (tmp_path / 'broken.py').write_text(text)
    with pytest.raises(InputError, match=r'broken\.py'):
        init_model(tmp_path / 'broken.py', device='cpu')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('a.yaml', 'model: !!python/object/apply:os.mkdir [marker]'),
        ('a.yml', 'a: &a [x, x]\nb: [*a, *a]'),
        ('a.json', '{"model": {"type": "subprocess.getoutput", "cmd": "touch marker"}}'),
    ],
)
def test_configs_are_python_files_only(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    with pytest.raises(InputError, match=name):
        init_model(name, device='cpu')
    assert not Path('marker').exists()


def test_a_mistyped_path_is_answered_with_the_closest(config, tmp_path):
    Config(config).dump(tmp_path / 'digits.py')
    with pytest.raises(InputError, match=r'digits\.py'):
        load_config(tmp_path / 'digit.py')


@pytest.mark.parametrize(
    'name',
    [
        'ect_1xb96-digits-8x8',
        'ect_1xb96-digits-8x8.py',
        'mmagic_cm::ect_1xb96-digits-8x8',
        'mmagic_cm::consistency_models/ect_1xb96-digits-8x8.py',
    ],
)
def test_our_configs_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name).model.objective.type == 'StagedObjective'
    # One's own file of that name goes first; a folder that is not there is no name of ours.
    (tmp_path / 'ect_1xb96-digits-8x8.py').write_text('mine = 1')
    assert load_config('ect_1xb96-digits-8x8.py').mine == 1
    with pytest.raises(InputError, match="'ect_1xb96-digits-8x8'"):
        load_config('mmagic_cm::ects_1xb96-digits-8x8')
    with pytest.raises(InputError, match='elsewhere'):
        load_config('elsewhere/ect_1xb96-digits-8x8.py')


# --- generate; ``test_sampling/test_loop.py`` has labels, seeds and batches ---


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [(0, [0] * 5), ([3, 1, 4, 1, 5], [3, 1, 4, 1, 5]), (np.arange(5), [0, 1, 2, 3, 4])],
)
def test_labels_come_back_with_the_images(labels, expected, model):
    images, found = generate(model, 5, labels=labels, batch_size=2)
    assert images.dtype == np.uint8
    assert images.shape == (5, 8, 8, 1)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_no_images_are_refused(model):
    with pytest.raises(InputError, match='num_samples'):
        generate(model, 0)


def test_samplers_by_name_config_and_object(model):
    def draw(sampler=None):
        return generate(model, 2, labels=3, sampler=sampler)[0]

    heun = draw(HeunSampler(num_steps=3))
    assert np.array_equal(draw(dict(type='HeunSampler', num_steps=3)), heun)
    onestep = draw('OnestepSampler')
    assert np.array_equal(draw(OnestepSampler()), onestep)
    assert not np.array_equal(onestep, heun)
    # Without one, the model's own.
    assert np.array_equal(draw(), onestep)
    model.sampler = HeunSampler(num_steps=3)
    assert np.array_equal(draw(), heun)


def test_bfloat16_keeps_all_weights_in_it_but_the_embedding(config, build_model, tmp_path):
    torch.save(build_model().state_dict(), tmp_path / 'weights.pth')
    exact, model = (
        init_model(config, tmp_path / 'weights.pth', 'cpu', p) for p in ('fp32', 'bf16')
    )
    network = model.denoiser.network
    assert network.dtype is torch.bfloat16
    kinds = {name.split('.')[0]: weight.dtype for name, weight in network.named_parameters()}
    kept = {name for name, kind in kinds.items() if kind is torch.float32}
    assert kept == {'time_embed', 'label_emb'}
    with model.sampling_denoiser():
        assert not torch.is_autocast_enabled('cpu')
    x, sigma, labels = torch.zeros(1, 1, 8, 8), torch.ones(1), torch.zeros(1).long()
    assert model.denoiser(x, sigma, labels).dtype is torch.float32
    off = abs(generate(exact, 4)[0].astype(int) - generate(model, 4)[0])
    assert 0 < off.max() < 16
    assert off.mean() < 2


def test_weights_of_any_type_are_taken_in_full_precision(config, build_model, tmp_path):
    weights = build_model().state_dict()
    torch.save({name: weight.half() for name, weight in weights.items()}, tmp_path / 'half.pth')
    model = init_model(config, tmp_path / 'half.pth', 'cpu')
    for name, weight in model.state_dict().items():
        assert weight.dtype is torch.float32
        assert torch.equal(weight, weights[name].half().float())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_outlives_the_file_that_it_came_from(config, build_model, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(build_model().state_dict(), path)
    model = init_model(config, path, 'cpu')
    before = generate(model, 2)[0]
    path.write_bytes(b'')  # A mapped file that shrinks kills those who read on.
    assert np.array_equal(generate(model, 2)[0], before)


def test_a_network_with_tensors_of_its_own(build_model, tmp_path):
    class Shifted(nn.Module):
        num_classes, in_channels, image_size = None, 1, 8

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)
            self.register_buffer('shift', torch.tensor(0.25), persistent=False)

        def forward(self, x, timesteps):
            return self.layer(x) + self.shift

    MODELS.register_module('ShiftedForATest', module=Shifted)
    try:
        denoiser = dict(type='KarrasDenoiser', network=dict(type='ShiftedForATest'))
        config = dict(model=dict(type='ConsistencyModel', denoiser=denoiser))
        trained = MODELS.build(config['model'])
        torch.save(trained.state_dict(), tmp_path / 'weights.pth')
        model = init_model(config, tmp_path / 'weights.pth', 'cpu')
    finally:
        MODELS.module_dict.pop('ShiftedForATest')
    assert model.denoiser.network.shift == 0.25
    assert torch.equal(model.denoiser.network.layer.weight, trained.denoiser.network.layer.weight)


@pytest.mark.parametrize('has_bf16', [True, False])
def test_slow_bfloat16_is_said(has_bf16, config, monkeypatch, caplog):
    capabilities = {'avx512_bf16': False, 'amx_bf16': has_bf16, 'avx2': True}
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    warnings = []
    monkeypatch.setattr('mmagic_cm.apis.print_log', lambda text, *rest: warnings.append(text))
    init_model(config, device='cpu', precision='bf16')
    init_model(config, device='cpu')
    assert len(warnings) == (0 if has_bf16 else 1)


@pytest.mark.slow
def test_compiled_images_are_the_same(config, build_model, tmp_path, monkeypatch, in_child):
    def check():
        compile = nn.Module.compile

        def without_generating_code(module, **settings):
            assert settings == dict(fullgraph=True, mode=None)
            compile(module, **settings, backend='aot_eager')  # The code takes minutes to compile.

        monkeypatch.setattr(nn.Module, 'compile', without_generating_code)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        torch.save(build_model().state_dict(), tmp_path / 'weights.pth')
        models = [
            init_model(config, tmp_path / 'weights.pth', 'cpu', compile=c) for c in (False, True)
        ]
        sampler = dict(type='MultistepSampler', sigmas=(80.0, 2.0))
        eager, compiled = (generate(m, 10, sampler=sampler, batch_size=4)[0] for m in models)
        assert abs(eager.astype(int) - compiled.astype(int)).max() <= 1
        # One graph for batches of 4, and one for all other sizes.
        assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 2

    in_child(check)
