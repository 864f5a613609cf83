"""The model of MMEngine's Runner: its modes, its strictness, its randomness."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import load_checkpoint
from mmengine.structures import BaseDataElement
from torch import nn

from mmagic_cm.diffusion.noise import seeded_globals
from mmagic_cm.diffusion.samplers import HeunSampler
from mmagic_cm.errors import InputError
from mmagic_cm.io.images import to_unit_range
from mmagic_cm.models import ConsistencyModel, KarrasDenoiser
from mmagic_cm.models.consistency_model import TrainingProgress
from mmagic_cm.models.statistics import LossByNoiseLevel
from mmagic_cm.objectives import ConsistencyTraining
from mmagic_cm.registry import MODELS

CT = dict(type='ConsistencyTraining')
ECT = dict(type='EasyConsistencyTuning')
IMAGES = torch.randint(256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.tensor([3, 1, 4, 1])


def at(iteration=0, seed=0, **others):
    when = {**dict(step=iteration, total_steps=100), **others}
    return TrainingProgress(seed=seed, iteration=iteration, **when)


def same_weights(model, weights):
    found = model.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(found[k], weights[k]) for k in found)


# --- what it is made of ---


def test_the_noise_range_is_the_denoisers(build_model, tiny_config):
    config = tiny_config(objective=CT, sampler=dict(type='HeunSampler', num_steps=3))
    config['denoiser'] |= dict(sigma_max=40.0, sigma_min=0.01, rho=5.0, sigma_data=0.3)
    model = MODELS.build(config)
    assert model.sampler.sigma_max == 40
    assert model.objective.grid(0, 10)[0] == 40
    assert model.objective.sigma_data == 0.3
    multistep = dict(type='MultistepSampler', ts=(0, 39))
    assert model.sampler_for(multistep).sigmas == (40,)
    for part, wrong in [
        ('sampler', dict(type='OnestepSampler', sigma_max=80.0)),
        ('sampler', dict(type='MultistepSampler', sigmas=(80.0, 1.0))),
        ('objective', dict(CT, sigma_min=0.002)),
        ('objective', dict(CT, sigma_data=0.5)),
    ]:
        with pytest.raises(InputError, match='denoiser'):
            MODELS.build({**config, part: wrong})


def test_a_network_says_what_a_model_must_know(tiny_config):
    denoiser = KarrasDenoiser(nn.Conv2d(1, 1, 1))
    with pytest.raises(InputError, match='num_classes'):
        ConsistencyModel(denoiser)


def test_what_learns_in_an_objective_is_part_of_the_model(tiny_config, build_model):
    model = MODELS.build(tiny_config(objective=dict(type='LearnsWithTheModel')))
    names = {'objective.log_variance.weight', 'objective.log_variance.bias'}
    assert names <= dict(model.named_parameters()).keys() & model.state_dict().keys()
    model.progress = at(0)
    model(to_unit_range(IMAGES), LABELS, mode='loss')['loss'].backward()
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in names)
    # Not needed to sample, and not there in weights from elsewhere.
    sampling = build_model()
    sampling.load_state_dict(model.state_dict())
    before = model.objective.log_variance.weight.clone()
    model.load_state_dict(build_model(seed=1).state_dict())
    assert torch.equal(model.objective.log_variance.weight, before)


def test_networks_that_do_not_learn_are_no_part_of_it(tiny_config):
    distance = nn.PairwiseDistance()
    distance.weight = nn.Parameter(torch.ones(1))
    model = MODELS.build(tiny_config(objective=dict(CT, distance=distance)))
    assert not any('objective' in name for name in model.state_dict())
    model.to(torch.float64)
    assert distance.weight.dtype is torch.float64


@pytest.mark.parametrize(('objective', 'needed'), [(CT, True), (ECT, False)])
def test_a_target_where_the_objective_needs_one(objective, needed, build_model):
    model = build_model(objective=objective)
    assert (model.target is not None) == needed
    if needed:
        assert not any(p.requires_grad for p in model.target.parameters())
        assert not {p.data_ptr() for p in model.target.parameters()} & {
            p.data_ptr() for p in model.denoiser.parameters()
        }


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (None, (10, 1, 8)),
        (dict(type='DataPreprocessor'), (10, 1, 8)),
        (dict(type='DataPreprocessor', num_classes=5), (5, 1, 8)),
    ],
)
def test_the_preprocessor_knows_the_network(given, expected, build_model):
    found = build_model(data_preprocessor=given).data_preprocessor
    assert (found.num_classes, found.channels, found.image_size) == expected


# --- modes ---


def test_tensor_mode_denoises_at_the_top(model):
    x = 80 * torch.randn(4, 1, 8, 8)
    expected = model.denoiser(x, torch.full((4,), 80.0), LABELS)
    assert torch.equal(model(x, LABELS), expected)


def test_predict_mode_draws_as_many_images(model):
    x = torch.zeros(4, 1, 8, 8)
    found = model(x, LABELS, mode='predict')
    assert [type(element) for element in found] == [BaseDataElement] * 4
    assert [element.label for element in found] == LABELS.tolist()
    images = torch.stack([element.image for element in found])
    assert images.dtype == torch.uint8
    assert images.shape == (4, 1, 8, 8)
    assert torch.equal(images, model.sample(range(4), LABELS))
    # Numbers of the images, for a set that is drawn in parts.
    part = model(x[:2], LABELS[2:], indices=[2, 3], mode='predict')
    assert part[0].image.int().sub(images[2].int()).abs().max() <= 1


def test_predict_mode_of_an_unconditional_model(build_model):
    model = build_model(dict(num_classes=None))
    found = model(torch.zeros(2, 1, 8, 8), mode='predict')
    assert len(found) == 2
    assert 'label' not in found[0]


def test_test_step_takes_a_batch_of_the_data_set(model):
    found = model.test_step(dict(inputs=IMAGES, labels=LABELS))
    assert [element.label for element in found] == LABELS.tolist()


def test_numbers_of_images_are_enough_to_draw(model):
    batch = dict(indices=torch.arange(4), labels=LABELS)
    found = torch.stack([element.image for element in model.test_step(batch)])
    assert torch.equal(found, model.sample(range(4), LABELS))
    model.sampling_seed = 5
    found = torch.stack([element.image for element in model.test_step(batch)])
    assert torch.equal(found, model.sample(range(4), LABELS, seed=5))
    with pytest.raises(InputError, match='inputs'):
        model(labels=LABELS, indices=[0])
    with pytest.raises(InputError, match='inputs'):
        model(labels=LABELS, mode='predict')


# --- training ---


@pytest.mark.parametrize('objective', [CT, ECT])
def test_loss_is_the_mean_of_the_objective(objective, build_model, monkeypatch):
    model = build_model(objective=objective)
    model.progress = at(3)
    x0 = to_unit_range(IMAGES)
    drawn = []
    draw = model.objective.draw

    def spy(given, step, total_steps, generator):
        assert torch.equal(given, x0)
        assert (step, total_steps) == (3, 100)
        drawn.append(draw(given, step, total_steps, generator))
        return drawn[0]

    monkeypatch.setattr(model.objective, 'draw', spy)
    found = model(x0, LABELS, mode='loss')
    assert found.keys() == {'loss'}
    target = dict(target=model.target) if model.target else {}
    again = model.objective(model.denoiser, x0, drawn[0], LABELS, **target)
    assert torch.equal(found['loss'], again.mean())
    # Gathered for the log, at the levels of this draw.
    levels = LossByNoiseLevel()
    levels.update(again, drawn[0].sigma)
    assert model.loss_by_noise_level.take() == levels.take()


def loss(model, **progress):
    model.progress = at(**progress)
    return model(to_unit_range(IMAGES), LABELS, mode='loss')['loss'].item()


@pytest.mark.parametrize('dropout', [0.0, 0.5])
def test_a_step_can_be_repeated(dropout, build_model):
    model = build_model(dict(dropout=dropout), objective=CT).train()
    first = loss(model, iteration=5)
    torch.manual_seed(99)  # the global generators have no say
    state = torch.get_rng_state()
    assert loss(model, iteration=5) == first
    assert torch.equal(torch.get_rng_state(), state)
    others = [loss(model, iteration=6), loss(model, iteration=5, seed=1)]
    assert first not in others


def test_accumulated_batches_draw_anew_at_the_same_step(build_model):
    model = build_model(objective=CT)
    assert loss(model, iteration=4, step=2) != loss(model, iteration=5, step=2)


class MaskSpy(ConsistencyTraining):
    """An objective that evaluates online and target network at the same point."""

    def draw(self, x0, step, total_steps, generator=None):
        self.seed = generator.initial_seed()
        return super().draw(x0, step, total_steps, generator)

    def forward(self, online, x0, draw, labels, *, target, teacher):
        self.online = online(x0, torch.ones(len(x0)), labels)
        return (self.online - target(x0, torch.ones(len(x0)), labels)).abs().flatten(1).mean(1)


def test_online_and_target_share_the_dropout_masks(build_model):
    model = build_model(dict(dropout=0.5), objective=MaskSpy()).train()
    state = torch.get_rng_state()
    assert loss(model, iteration=0) == 0
    masked = model.objective.online
    assert torch.equal(torch.get_rng_state(), state)
    x0, sigma = to_unit_range(IMAGES), torch.ones(4)
    # They are not made of the numbers that the noise is made of.
    with seeded_globals(model.objective.seed, x0.device):
        assert not torch.equal(model.denoiser(x0, sigma, LABELS), masked)
    # The control: there are masks, they change from step to step, and unseeded ones differ.
    loss(model, iteration=1)
    assert not torch.equal(model.objective.online, masked)
    assert not torch.equal(model.denoiser(x0, sigma, LABELS), model.target(x0, sigma, LABELS))


def test_training_moves_the_online_network_alone(build_model):
    model = build_model(objective=CT).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.progress = at(50)
    optimizer = OptimWrapper(torch.optim.SGD(model.denoiser.parameters(), lr=0.1))
    logged = model.train_step(dict(inputs=IMAGES, labels=LABELS), optimizer)
    assert logged['loss'] > 0
    moved = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved
    assert all(key.startswith('denoiser.') for key in moved)
    assert all(p.grad is None for p in model.target.parameters())


@pytest.mark.parametrize(
    ('settings', 'match'), [({}, 'objective'), (dict(objective=CT), 'CurriculumHook')]
)
def test_what_training_needs(settings, match, build_model):
    with pytest.raises(InputError, match=match):
        build_model(**settings)(to_unit_range(IMAGES), LABELS, mode='loss')


# --- nothing loads by halves ---

KEY = 'denoiser.network.out.2.weight'


@pytest.mark.parametrize('objective', [None, ECT, CT])
def test_mmengines_lax_loading_is_strict(objective, build_model, tmp_path):
    model = build_model(objective=objective)
    weights = build_model(objective=objective, seed=1).state_dict()
    del weights[KEY]
    weights |= {'denoiser.extra': torch.zeros(1), 'denoiser.network.out.0.bias': torch.zeros(5)}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    with pytest.raises(InputError) as error:
        load_checkpoint(model, str(tmp_path / 'weights.pth'), strict=False)
    for name in (KEY, 'denoiser.extra', 'denoiser.network.out.0.bias'):
        assert name in str(error.value)
    assert same_weights(model, before)


@pytest.mark.parametrize('layout', ['ours', 'released'])
def test_the_target_follows_where_the_file_has_none(layout, build_model):
    model, other = build_model(objective=CT), build_model(seed=1)
    source = other if layout == 'ours' else other.denoiser.network
    model.load_state_dict(source.state_dict())
    assert same_weights(model.denoiser, other.denoiser.state_dict())
    assert same_weights(model.target, other.denoiser.state_dict())


def test_the_target_of_the_file_is_kept(build_model):
    other = build_model(objective=CT, seed=1)
    other.target.load_state_dict(build_model(seed=2).denoiser.state_dict())
    model = build_model(objective=CT)
    model.load_state_dict(other.state_dict())
    assert same_weights(model, other.state_dict())
    # A model that samples has no use for it.
    model = build_model()
    model.load_state_dict(other.state_dict())
    assert same_weights(model.denoiser, other.denoiser.state_dict())


def test_strict_inside_a_wrapper(model, build_model):
    wrapper = nn.ModuleDict(dict(module=model))
    weights = {f'module.{k}': v for k, v in build_model(seed=1).state_dict().items()}
    wrapper.load_state_dict(weights)
    assert same_weights(model, build_model(seed=1).state_dict())
    del weights[f'module.{KEY}']
    with pytest.raises(InputError, match=KEY):
        wrapper.load_state_dict(weights, strict=False)


# --- sampling ---


def test_sample(model):
    found = model.sample([0, 1, 2], LABELS[:3])
    assert found.dtype == torch.uint8
    assert found.shape == (3, 1, 8, 8)
    assert found.float().std() > 5  # pictures of something
    assert torch.equal(found, model.sample([0, 1, 2], LABELS[:3]))
    assert not torch.equal(found, model.sample([0, 1, 2], LABELS[:3], seed=1))
    assert not torch.equal(found, model.sample([0, 1, 2], LABELS[:3] + 1))
    assert not torch.equal(found, model.sample([0, 1, 2], LABELS[:3], HeunSampler(num_steps=2)))


def test_sampling_starts_at_the_top_of_the_sampler(model):
    seen = []

    class Spy(HeunSampler):
        def sample(self, denoise, x, noise, progress):
            seen.append(x)
            return super().sample(denoise, x, noise, progress)

    for sigma_max in (80.0, 10.0):
        model.sample([4, 2], LABELS[:2], Spy(num_steps=2, sigma_max=sigma_max))
    torch.testing.assert_close(seen[0] / 80, seen[1] / 10)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('fails', [True, False])
def test_sampling_is_without_dropout_and_leaves_the_mode(training, fails, build_model):
    model = build_model(dict(dropout=0.5))
    expected = model.sample([0, 1], LABELS[:2])
    model.train(training)
    if fails:
        with pytest.raises(InputError, match='labels'):
            model.sample([0, 1])
    else:
        assert torch.equal(model.sample([0, 1], LABELS[:2]), expected)
    assert all(module.training == training for module in model.denoiser.modules())


def test_sampling_does_not_touch_the_global_generator(model):
    state = torch.get_rng_state()
    model.sample([0, 1], LABELS[:2], HeunSampler(num_steps=3, s_churn=1.0))
    assert torch.equal(torch.get_rng_state(), state)


def test_training_goes_on_after_sampling(build_model):
    """What inference_mode makes must not leak into a graph."""
    model = build_model(objective=CT).train()
    model.sample([0], LABELS[:1])
    model.progress = at(0)
    model(to_unit_range(IMAGES), LABELS, mode='loss')['loss'].backward()
    assert all(p.grad is not None for p in model.denoiser.parameters())


def test_bfloat16_draws_nearly_the_same(model):
    exact = model.sample(range(4), LABELS).int()
    dtypes = set()
    conv = model.denoiser.network.input_blocks[0][0]
    conv.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    model.precision = 'bf16'
    off = (model.sample(range(4), LABELS).int() - exact).abs()
    assert dtypes == {torch.bfloat16}
    # A rounding of eight bits is half a level of 255; a network of some layers adds a few up.
    assert off.float().mean() < 2
    assert off.max() < 16
    assert not torch.is_autocast_enabled('cpu')
    model.precision = 'fp32'
    assert np.array_equal(model.sample(range(4), LABELS).int(), exact)


def test_init_from_names_a_file_that_does_not_fit(build_model, tmp_path):
    torch.save({'denoiser.network.other': torch.zeros(1)}, tmp_path / 'other.pth')
    model = build_model(init_from=str(tmp_path / 'other.pth'))
    with pytest.raises(InputError, match=r'other\.pth'):
        model.init_weights()
