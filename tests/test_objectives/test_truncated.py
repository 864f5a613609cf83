"""Truncated consistency models, both stages: the reference's losses and levels, who learns what."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.objectives import (
    Draw,
    EasyConsistencyTuning,
    StagedObjective,
    TruncatedConsistencyTraining,
)

NOW = dict(step=0, total_steps=100)
SETTINGS = dict(
    cifar=dict(q=2.0, ratio_limit=0.999, c=1e-8),
    imagenet=dict(q=4.0, ratio_limit=0.9961, c=0.06, weighting='karras'),
)
FirstStage = partial(EasyConsistencyTuning, r_min=1e-6, truncate=True)


def over(values):
    """(N,) -> (N, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def online_network(x, timestep):
    return 0.5 * x.tanh() + over(timestep) / 10000


def frozen_network(x, timestep):
    return 0.4 * x.sin()


def exactly(network):
    """EDM's denoiser around a network, in float64."""

    def denoise(x, sigma, labels=None):
        level = over(sigma)
        root = (level**2 + 0.25).sqrt()
        return x * 0.25 / root**2 + network(x / root, 250 * sigma.log()) * level * 0.5 / root

    return denoise


# Denoisers, the type of the images, and what is asked of the rows where t - r is small.
PRECISIONS = [
    pytest.param(exactly, torch.float64, 1e-9, id='float64'),
    pytest.param(
        partial(KarrasDenoiser, parameterization='edm', c_noise='adm'),
        torch.float32,
        5e-3,
        id='float32',
    ),
]


@pytest.fixture
def x0():
    return torch.rand(8, 1, 4, 4) * 2 - 1


# --- the first stage, and ECT ---


@pytest.mark.parametrize(('denoiser', 'dtype', 'rtol'), PRECISIONS)
def test_rows_of_easy_consistency_tuning(denoiser, dtype, rtol, goldens):
    recorded = goldens('ect')
    rows = [key for key in recorded if '/loss_c' in key]
    assert len(rows) == 32
    x0, noise, t = (recorded[key].to(dtype) for key in ('x0', 'noise', 't'))
    network = denoiser(online_network)
    for row in rows:
        kind, q, stage, c = row.split('/')
        q, stage, c = float(q[1:]), int(stage[5:]), float(c[6:])
        objective = EasyConsistencyTuning(q, 8, k=8.0 * (kind == 'sigmoid'), c=c)
        r = objective.next_level(t, stage, 8)
        expected = recorded[row.rsplit('/', 1)[0] + '/r'].to(dtype)
        torch.testing.assert_close(r, expected, rtol=1e-6, atol=1e-12)
        found = objective(network, x0, Draw(noise, t, expected))
        torch.testing.assert_close(found.double(), recorded[row], rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(('denoiser', 'dtype', 'rtol'), PRECISIONS)
@pytest.mark.parametrize('data', SETTINGS)
@pytest.mark.parametrize('stage', [0, 2, 5, 12])
def test_rows_of_the_first_stage(denoiser, dtype, rtol, data, stage, goldens):
    recorded = goldens('tcm')
    x0, noise, t = (recorded[key].to(dtype) for key in ('x0', 'noise', 't'))
    row = f'stage1/{data}/s{stage}'
    objective = FirstStage(num_stages=13, **SETTINGS[data])
    r = objective.next_level(t, stage, 13)
    torch.testing.assert_close(r, recorded[f'{row}/r'].to(dtype), rtol=1e-6, atol=0)
    draw = Draw(noise, t, recorded[f'{row}/r'].to(dtype))
    found = objective(denoiser(online_network), x0, draw).double()
    # In float32 the root of l2^2 + c^2 less c loses more digits the smaller l2 is beside c.
    atol = 0 if dtype is torch.float64 or data == 'cifar' else 2e-3
    torch.testing.assert_close(found, recorded[f'{row}/loss'], rtol=rtol, atol=atol)


def test_levels_of_the_first_stage():
    objective = FirstStage()
    generator = torch.Generator().manual_seed(0)
    sigma = objective.draw(torch.zeros(50_000, 1, 1, 1), **NOW, generator=generator).sigma
    assert 0.002 <= sigma.min() < 0.0022
    assert 76 < sigma.max() <= 80
    shares = torch.tensor([0.25, 0.5, 0.75])
    expected = torch.tensor([0.088128, 0.33472, 1.2749])
    torch.testing.assert_close(sigma.quantile(shares), expected, rtol=0.05, atol=0)


# --- the second stage ---


@pytest.mark.parametrize(('denoiser', 'dtype', 'rtol'), PRECISIONS)
@pytest.mark.parametrize('data', SETTINGS)
@pytest.mark.parametrize('stage', [2, 12])
def test_rows_of_the_second_stage(denoiser, dtype, rtol, data, stage, goldens):
    recorded = goldens('tcm')
    x0, noise = recorded['x0'].to(dtype), recorded['noise'].to(dtype)
    row = f'stage2/{data}/s{stage}'
    objective = TruncatedConsistencyTraining(**SETTINGS[data], first_stage=stage)
    t, r = recorded['stage2/t'].to(dtype), recorded[f'{row}/r'].to(dtype)
    torch.testing.assert_close(objective.next_level(t, **NOW), r, rtol=1e-6, atol=0)
    marked = recorded['stage2/marked']
    draw = replace(objective.draw(x0, **NOW), noise=noise, sigma=t, next_sigma=r, boundary=marked)
    roles = dict(teacher=denoiser(frozen_network))
    found = objective(denoiser(online_network), x0, draw, **roles).double()
    total = recorded[f'{row}/total']
    torch.testing.assert_close(found.mean(), total, rtol=rtol, atol=0)
    weights = 6 / 4 * ~marked + 0.1 * 6 / 2 * marked.double()
    torch.testing.assert_close(
        found / weights, recorded[f'{row}/loss'], rtol=rtol, atol=1e-3 * rtol
    )


def test_draws_of_the_second_stage(x0):
    objective = TruncatedConsistencyTraining()

    def draw(seed, images=x0):
        return objective.draw(images, **NOW, generator=torch.Generator().manual_seed(seed))

    first, again, other = draw(1), draw(1), draw(2)
    for name in ('noise', 'sigma', 'next_sigma', 'boundary'):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert first.boundary.sum() == 2
    assert (first.sigma[first.boundary] == 1).all()
    assert torch.equal(first.next_sigma, objective.next_level(first.sigma, **NOW))
    staged = StagedObjective([(0.5, FirstStage()), (1.0, objective)])
    in_stage = staged.draw(x0, 60, 100, torch.Generator().manual_seed(1))
    assert torch.equal(in_stage.boundary, first.boundary)

    many = draw(3, torch.zeros(40_000, 1, 1, 1))
    assert many.boundary.sum() == 10_000
    rest = many.sigma[~many.boundary]
    assert rest.min() >= 1
    assert rest.max() <= 80
    shares = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = torch.tensor([1.01267, 1.04298, 1.22115, 2.52355, 10.4444])
    torch.testing.assert_close(rest.quantile(shares), expected, rtol=0.05, atol=0)


def test_r_of_the_boundary():
    objective = TruncatedConsistencyTraining()
    assert objective.next_level(torch.ones(1), **NOW).item() == pytest.approx(0.996849, abs=1e-6)
    low = objective.next_level(torch.tensor([1.0031, 1.0033]), **NOW)
    assert (low < 1).tolist() == [True, False]


def test_the_teacher_answers_below_the_boundary_only(x0):
    asked = []

    def frozen(x, sigma, labels):
        asked.append((x, sigma, labels))
        return x * 0 + 0.5

    objective = TruncatedConsistencyTraining()
    sigma, labels = torch.linspace(1.0, 1.007, 8), torch.arange(8)
    next_sigma = objective.next_level(sigma, **NOW)
    draw = replace(objective.draw(x0, **NOW), sigma=sigma, next_sigma=next_sigma)
    reference = objective.reference(lambda x, *_: x, frozen, x0, draw, labels)
    below = sigma < 1.0032
    assert below.sum() == 4
    assert (reference[below] == 0.5).all()
    at_r = x0 + over(draw.next_sigma) * draw.noise
    assert torch.equal(reference[~below], at_r[~below])
    ((x, sigma, given),) = asked
    assert torch.equal(x, at_r)
    assert torch.equal(sigma, draw.next_sigma)
    assert given is labels


@pytest.mark.parametrize('kind', [FirstStage, TruncatedConsistencyTraining])
def test_data_of_one_image_has_no_loss(kind, x0):
    objective = kind()
    image = torch.full_like(x0, 0.3)
    draw = objective.draw(image, **NOW)
    roles = dict(teacher=lambda *_: image) if objective.needs_teacher else {}
    assert objective(lambda *_: image, image, draw, **roles).max() == 0


def test_only_the_student_learns_and_only_at_t(x0):
    """The derivative of each row by a factor of the student: as if the second point stood still."""
    objective = TruncatedConsistencyTraining(first_stage=2)
    x0 = x0.double()
    draw = objective.draw(x0, **NOW)
    sigma = draw.sigma.double() * torch.linspace(1, 2, 8)
    next_sigma = objective.next_level(sigma, **NOW)
    assert 0 < (next_sigma < 1).sum() < 8
    draw = replace(draw, sigma=sigma, next_sigma=next_sigma)
    scale, taught = (torch.tensor(1.0, dtype=torch.float64, requires_grad=True) for _ in range(2))
    online, frozen = exactly(online_network), exactly(frozen_network)
    found = objective(
        lambda x, s, labels: scale * online(x, s),
        x0,
        draw,
        teacher=lambda x, s, labels: taught * frozen(x, s),
    )
    a = online(draw.at(sigma, x0), sigma)
    x_next = draw.at(next_sigma, x0)
    b = torch.where(over(next_sigma) >= 1, online(x_next, next_sigma), frozen(x_next, next_sigma))
    by_scale = ((a - b) * a).sum((1, 2, 3)) / (a - b).flatten(1).norm(dim=1)
    weights = torch.where(draw.boundary, 0.1 * 8 / 2, 8 / 6) / (sigma - next_sigma)
    for i in range(8):
        (slope,) = torch.autograd.grad(found[i], scale, retain_graph=True)
        assert slope.item() == pytest.approx((weights * by_scale)[i].item(), rel=1e-6)
    assert torch.autograd.grad(found.sum(), taught, allow_unused=True) == (None,)


@pytest.mark.parametrize('n', [1, 3])
def test_small_batches_have_none_on_the_boundary(n, x0):
    objective = TruncatedConsistencyTraining()
    draw = objective.draw(x0[:n], **NOW)
    assert not draw.boundary.any()
    roles = dict(teacher=lambda x, *_: x * 0.5)
    found = objective(lambda x, *_: x * 0.9, x0[:n], draw, **roles)
    # As the first stage has it, but for the teacher.
    a = 0.9 * draw.at(draw.sigma, x0[:n])
    b = draw.at(draw.next_sigma, x0[:n])
    b = b * torch.where(over(draw.next_sigma) >= 1, 0.9, 0.5)
    expected = (a - b).flatten(1).norm(dim=1) / (draw.sigma - draw.next_sigma)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_a_teacher_is_needed(x0):
    objective = TruncatedConsistencyTraining()
    with pytest.raises(InputError, match='teacher'):
        objective(lambda x, *_: x, x0, objective.draw(x0, **NOW))


def test_the_upper_end_is_the_denoisers():
    objective = TruncatedConsistencyTraining().within(KarrasDenoiser(online_network, sigma_max=5.0))
    sigma = objective.draw(torch.zeros(2000, 1, 1, 1), **NOW).sigma
    assert 4 < sigma.max() <= 5
    assert math.isclose(sigma.min().item(), 1, rel_tol=1e-3)
