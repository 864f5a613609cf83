"""Models that learn from a teacher: what is loaded, what moves, what is saved; no class."""

import copy

import pytest
import torch
from torch import nn

from mmagic_cm.diffusion.guidance import NO_CLASS
from mmagic_cm.engine.averages import EMATracker
from mmagic_cm.errors import InputError
from mmagic_cm.models import EDMParameterization, Teacher
from mmagic_cm.models.consistency_model import TrainingProgress
from mmagic_cm.registry import DISTANCES, MODELS
from mmagic_cm.sampling.loop import choose_labels

CD = dict(type='ConsistencyDistillation', curriculum=dict(
    type='FixedCurriculum', target_ema=0.9, num_scales=8))  # fmt: skip
PD = dict(type='ProgressiveDistillation')
TCM = dict(type='TruncatedConsistencyTraining')
IMAGES = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
LABELS = torch.tensor([3, 1, 4, 1])


@pytest.fixture
def checkpoint(build_model, tmp_path):
    """A training checkpoint of an EDM model, with one EMA."""
    model = build_model(seed=5)
    tracker = EMATracker(build_model(seed=6).denoiser, (0.9,))
    path = tmp_path / 'edm.pth'
    torch.save(dict(state_dict=model.state_dict(), emas=tracker.state_dict()), path)
    return path


def loss(model, labels=LABELS, iteration=0):
    model.progress = TrainingProgress(seed=0, iteration=iteration, step=iteration, total_steps=100)
    return model.loss(IMAGES, labels)['loss']


@pytest.mark.parametrize('objective', [CD, PD])
def test_a_teacher_where_the_objective_needs_one(objective, build_model, tiny_config):
    with pytest.raises(InputError, match='teacher'):
        MODELS.build(tiny_config(objective=objective))
    model = build_model(objective=objective, teacher={})
    assert isinstance(model.teacher, Teacher)
    assert isinstance(model.teacher.denoiser.parameterization, EDMParameterization)
    assert (model.target is None) == (objective is PD)


def test_a_teacher_that_is_not_used(tiny_config):
    edm = dict(type='DenoisingScoreMatching')
    for settings in (
        dict(objective=edm, teacher={}),
        dict(objective=edm, init_from='teacher'),
        dict(teacher={}),
        dict(objective=CD, teacher=dict(checkpont='x.pth')),
    ):
        with pytest.raises(InputError, match=r'teacher|checkpont'):
            MODELS.build(tiny_config(**settings))


@pytest.mark.parametrize(('ema', 'seed'), [('auto', 6), (0.9, 6), (None, 5)])
def test_weights_of_the_teacher(ema, seed, checkpoint, build_model):
    teacher = dict(checkpoint=str(checkpoint), ema=ema)
    model = build_model(objective=CD, teacher=teacher)
    before = copy.deepcopy(model.denoiser.state_dict())
    model.init_weights()
    expected = build_model(seed=seed).denoiser.state_dict()
    for name, tensor in model.teacher.denoiser.state_dict().items():
        assert torch.equal(tensor, expected[name])
    for name, tensor in model.denoiser.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_student_starts_from_the_teacher(checkpoint, build_model):
    teacher = dict(checkpoint=str(checkpoint))
    model = build_model(objective=CD, teacher=teacher, init_from='teacher')
    model.init_weights()
    expected = model.teacher.denoiser.state_dict()
    for part in (model.denoiser, model.target):
        for name, tensor in part.state_dict().items():
            assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize(
    ('settings', 'match'), [({}, 'teacher'), (dict(checkpoint='none.pth'), 'none.pth')]
)
def test_a_teacher_without_weights_is_refused(settings, match, build_model):
    model = build_model(objective=CD, teacher=settings)
    with pytest.raises(InputError, match=match):
        model.init_weights()


def test_a_teacher_of_another_network_is_refused(checkpoint, build_model):
    model = build_model(
        dict(model_channels=64), objective=CD, teacher=dict(checkpoint=str(checkpoint))
    )
    with pytest.raises(InputError, match=r'edm\.pth'):
        model.init_weights()


def test_a_teacher_of_its_own_architecture(build_model, tiny_config):
    denoiser = tiny_config(dict(null_class=True), parameterization='edm')['denoiser']
    model = build_model(objective=CD, teacher=dict(denoiser=denoiser))
    assert model.teacher.denoiser.network.null_class
    assert not model.null_class
    assert loss(model).isfinite()


class Perceptual(nn.Module):
    """A distance with weights, which are not to be learned, saved or fetched by surprise."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.fetched = 0

    def fetch(self):
        self.fetched += 1

    def forward(self, a, b):
        return self.scale * (a - b).square().flatten(1).mean(1)


@pytest.fixture
def frozen(build_model, checkpoint, monkeypatch):
    """A model with a teacher and a distance that has weights."""
    DISTANCES.register_module('test-perceptual', module=Perceptual, force=True)
    objective = dict(CD, distance='test-perceptual')
    yield build_model(objective=objective, teacher=dict(checkpoint=str(checkpoint)))
    DISTANCES.module_dict.pop('test-perceptual')


def test_frozen_parts_are_no_part_of_the_model(frozen):
    names = {name.split('.')[0] for name in frozen.state_dict()}
    assert names == {'denoiser', 'target'}
    assert {name.split('.')[0] for name, _ in frozen.named_parameters()} == names
    frozen.train()
    assert not frozen.teacher.training
    frozen.train().zero_grad()
    loss(frozen).backward()
    for part in (frozen.teacher, frozen.objective.distance, frozen.target):
        assert all(parameter.grad is None for parameter in part.parameters())
    assert any(p.grad is not None and p.grad.any() for p in frozen.denoiser.parameters())


def test_frozen_parts_move_with_the_model(frozen):
    frozen.to(torch.float64)
    for part in (frozen.denoiser, frozen.teacher, frozen.objective.distance):
        assert {p.dtype for p in part.parameters()} == {torch.float64}
    frozen.to('meta')
    assert all(p.is_meta for p in frozen.teacher.parameters())


def test_what_the_objective_needs_is_fetched_when_training_begins(frozen):
    assert frozen.objective.distance.fetched == 0
    frozen.init_weights()
    assert frozen.objective.distance.fetched == 1


def test_a_copy_has_a_teacher_of_its_own(frozen):
    other = copy.deepcopy(frozen)
    assert other.teacher is not frozen.teacher
    other.to(torch.float64)
    assert next(frozen.teacher.parameters()).dtype == torch.float32


def test_the_teacher_has_no_dropout(build_model):
    model = build_model(dict(dropout=0.5), objective=CD, teacher={}).train()
    x, sigma = IMAGES, torch.ones(4)
    assert torch.equal(model.teacher(x, sigma, LABELS), model.teacher(x, sigma, LABELS))
    with torch.no_grad():
        assert not torch.equal(model.denoiser(x, sigma, LABELS), model.denoiser(x, sigma, LABELS))


def test_a_teacher_with_dropout_has_the_masks_of_the_student(build_model):
    """TCM's: with the student's weights it says what the student says, and CD's does not."""
    stages = [(0.5, dict(type='ConsistencyMidTraining', distance='l2', num_steps=2)), (1.0, TCM)]
    model = build_model(
        dict(dropout=0.5),
        parameterization='edm',
        objective=dict(type='StagedObjective', stages=stages),
        teacher=dict(from_stage=True),
    ).train()
    model.teacher.become(model.denoiser)
    said = {}
    for name, denoiser in (('student', model.denoiser), ('teacher', model.teacher.denoiser)):
        denoiser.register_forward_hook(
            lambda module, inputs, output, name=name: said.setdefault(name, []).append(output)
        )
    loss(model, iteration=60)
    assert torch.equal(said['teacher'][0], said['student'][0])
    assert len(said['teacher']) == 1
    again = said.copy()
    said.clear()
    loss(model, iteration=60).backward()
    assert torch.equal(said['teacher'][0], again['teacher'][0])
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    # A stage that wants none has none, and the other way about.
    for iteration, training in ((0, False), (60, True), (10, False)):
        loss(model, iteration=iteration)
        assert model.teacher.denoiser.training == training


def test_a_teacher_from_a_stage(build_model):
    """It has the student's own parameterization, no file, and waits for a stage."""
    stages = [(0.5, dict(type='DenoisingScoreMatching')), (1.0, TCM)]
    objective = dict(type='StagedObjective', stages=stages)
    model = build_model(objective=objective, teacher=dict(from_stage=True))
    model.init_weights()
    assert loss(model).isfinite()
    with pytest.raises(InputError, match='StageHook'):
        loss(model, iteration=60)
    model.teacher.become(model.denoiser)
    x, sigma = IMAGES, torch.ones(4)
    assert torch.equal(model.teacher(x, sigma, LABELS), model.denoiser(x, sigma, LABELS))
    assert loss(model, iteration=60).isfinite()


def test_the_teacher_becomes_the_student(build_model):
    model = build_model(objective=PD, teacher={}, seed=3)
    other = build_model(seed=4)
    model.teacher.become(other.denoiser)
    x, sigma = IMAGES, torch.ones(4)
    other.denoiser.parameterization = EDMParameterization()
    assert torch.equal(model.teacher(x, sigma, LABELS), other.denoiser(x, sigma, LABELS))


# --- no class ---


class LabelSpy(nn.Module):
    """Keeps the labels that it is asked about."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.network, self.seen = denoiser, denoiser.network, []

    def forward(self, x, sigma, labels):
        self.seen.append(labels)
        return self.denoiser(x, sigma, labels)


def test_label_dropout(build_model):
    edm = dict(type='DenoisingScoreMatching')
    model = build_model(dict(null_class=True), objective=edm, label_dropout=0.5)
    model.denoiser = LabelSpy(model.denoiser)
    for iteration in range(50):
        loss(model, iteration=iteration)
    again = loss(model, iteration=0), model.denoiser.seen[-1]
    assert torch.equal(again[1], model.denoiser.seen[0])
    seen = torch.stack(model.denoiser.seen[:-1])
    assert 0.35 < (seen == NO_CLASS).float().mean() < 0.65
    assert torch.equal(torch.where(seen == NO_CLASS, LABELS, seen), LABELS.expand(50, 4))


def test_null_class_is_a_row_of_its_own(build_model):
    model = build_model(dict(null_class=True))
    network = model.denoiser.network
    assert network.label_emb.weight.shape[0] == 11
    x, t = IMAGES, torch.zeros(4)
    none = network(x, t, torch.full((4,), NO_CLASS))
    with torch.no_grad():
        network.label_emb.weight[10] = network.label_emb.weight[3]
    assert not torch.equal(none, network(x, t, torch.full((4,), NO_CLASS)))
    same = network(x, t, torch.full((4,), 3))
    assert torch.equal(same, network(x, t, torch.full((4,), NO_CLASS)))


def test_guided_samples(build_model):
    model = build_model(dict(null_class=True), parameterization='edm')
    plain = model.sample(range(4), LABELS)
    none = model.sample(range(4), torch.full((4,), NO_CLASS))
    model.guidance_scale = 1.0
    assert (model.sample(range(4), LABELS).int() - plain.int()).abs().max() <= 1
    model.guidance_scale = 0.0
    assert (model.sample(range(4), LABELS).int() - none.int()).abs().max() <= 1
    model.guidance_scale = 3.0
    assert (model.sample(range(4), LABELS).int() - plain.int()).abs().max() > 1


@pytest.mark.parametrize('settings', [dict(label_dropout=0.1), dict(guidance_scale=2.0)])
def test_null_class_is_needed(settings, build_model, tiny_config):
    with pytest.raises(InputError, match='null_class'):
        build_model(**settings).sample(range(4), LABELS)
    with pytest.raises(InputError, match='null_class'):
        MODELS.build(tiny_config(dict(null_class=True, num_classes=None)))


def test_labels_of_no_class(build_model):
    assert (
        choose_labels(build_model(dict(null_class=True)), range(2), NO_CLASS).tolist() == [-1] * 2
    )
    with pytest.raises(InputError, match='-1'):
        choose_labels(build_model(), range(2), NO_CLASS)
