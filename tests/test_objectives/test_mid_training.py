"""Consistency mid-training: the reference's losses, closed forms, what goes where in the batch."""

import math
from itertools import pairwise

import pytest
import torch

from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.objectives import LPIPS, ConsistencyMidTraining
from mmagic_cm.registry import MODELS

NOW = dict(step=0, total_steps=100)


def over(values):
    """(N,) -> (N, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def online(x, sigma, labels=None):
    """The reference's online network, in float64."""
    sigma = over(sigma)
    root = (sigma**2 + 0.25).sqrt()
    output = 0.5 * (x / root).tanh() + 250 * sigma.log() / 10000
    return x * 0.25 / root**2 + output * sigma * 0.5 / root


def teacher(x, sigma, labels=None):
    """The reference's denoiser for trajectories."""
    sigma = over(sigma)
    return 0.9 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2).sqrt())


@pytest.fixture
def x0():
    return torch.rand(6, 1, 4, 4, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize('row', ['N16', 'N10'])
@pytest.mark.parametrize('norm', ['sum_of_squares', 'l2'])
def test_rows_of_the_reference(row, norm, goldens):
    recorded = goldens('cmt')
    rows = []

    def distance(a, b):
        squares = (a - b).square().flatten(1).sum(1)
        rows.append(squares.sqrt() if norm == 'l2' else squares)
        return rows[-1]

    expected = recorded[f'{row}/loss_{norm}']
    num_steps = len(expected)
    objective = ConsistencyMidTraining(distance, num_steps, quadratic='half')
    x0, noise = recorded['images'].double(), recorded['noise'].double()
    draw = objective.draw(x0, **NOW)
    draw = type(draw)(noise, draw.sigma, draw.next_sigma)
    found = objective(online, x0, draw, teacher=teacher)
    torch.testing.assert_close(rows[0].reshape(num_steps, -1), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, expected.mean(0), rtol=1e-10, atol=1e-10)


def test_the_published_levels():
    objective = ConsistencyMidTraining('l2')
    published = [80, 41.2535, 21.2732, 10.9699, 5.65685, 2.91707, 1.50424, 0.77569, 0.4]
    assert objective.levels[:9] == pytest.approx(published, rel=1e-5)
    assert objective.grid(**NOW).tolist() == pytest.approx(objective.levels)
    assert len(objective.levels) == 17
    assert objective.levels[-1] == 0.002
    narrow = objective.within(KarrasDenoiser(online, sigma_min=0.01, sigma_max=40.0))
    assert (narrow.levels[0], narrow.levels[-1]) == pytest.approx((40, 0.01))


def test_lpips_at_the_size_of_the_images():
    objective = MODELS.build(dict(type='ConsistencyMidTraining'))
    assert isinstance(objective.distance, LPIPS)
    assert objective.distance.resize is None
    assert ConsistencyMidTraining(dict(type='lpips')).distance.resize == 224


def test_the_exact_consistency_function_has_no_loss_but_the_solver_error(gaussian, x0):
    def exact(x, sigma, labels=None):
        return gaussian.flow(x, sigma, 0.002)

    losses = []
    for num_steps in (64, 128, 256):
        objective = ConsistencyMidTraining('l1', num_steps)
        draw = objective.draw(x0, **NOW, generator=torch.Generator().manual_seed(0))
        losses.append(objective(exact, x0, draw, teacher=gaussian.denoise).mean().item())
    assert losses[-1] < 1e-6
    assert all(math.log2(coarse / fine) > 2.8 for coarse, fine in pairwise(losses))


def test_a_teacher_of_one_image_is_learned_exactly(x0):
    """All its trajectories are straight, and the solver is exact on them."""
    objective = ConsistencyMidTraining('l1', 5)
    draw = objective.draw(x0, **NOW)

    def exact(x, sigma, labels=None):
        return 0.3 + (x - 0.3) * 0.002 / over(sigma)

    found = objective(exact, x0, draw, teacher=lambda x, sigma, labels: torch.full_like(x, 0.3))
    assert found.max() < 1e-12


def test_points_are_one_batch_with_labels_and_conditions(x0):
    objective = ConsistencyMidTraining('l1', 4)
    labels = torch.arange(6)
    told = dict(guidance=torch.rand(6), image=torch.rand(6, 1, 4, 4))
    calls = []

    def by_label(x, sigma, labels, **conditions):
        calls.append((x, sigma, conditions))
        return torch.zeros_like(x) + over(labels) + conditions['image']

    draw = objective.draw(x0, **NOW)
    found = objective(by_label, x0, draw, labels, teacher=by_label, **told)
    *walk, (points, sigma, conditions) = calls
    assert len(walk) == 4
    torch.testing.assert_close(points, torch.cat([x for x, *_ in walk]))
    assert torch.equal(sigma, torch.cat([level for _, level, _ in walk]))
    for name, values in conditions.items():
        assert torch.equal(values, torch.cat([told[name]] * 4))
    torch.testing.assert_close(walk[0][0], x0 + 80 * draw.noise)
    # Answers of each label are compared with the end of its own trajectory.
    assert found.shape == (6,)
    assert found.max() < 0.01


def test_only_the_online_network_learns(x0):
    weights = [torch.tensor(1.0, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    objective = ConsistencyMidTraining('l2', 3)
    draw = objective.draw(x0, **NOW)

    def losses(scale, taught=1.0):
        return objective(
            lambda x, sigma, labels: scale * online(x, sigma),
            x0,
            draw,
            teacher=lambda x, sigma, labels: taught * teacher(x, sigma),
        )

    losses(*weights).sum().backward()
    step = 1e-6
    slope = (losses(1 + step) - losses(1 - step)).sum() / (2 * step)
    assert weights[0].grad.item() == pytest.approx(slope.item(), rel=1e-6)
    assert weights[1].grad is None


def test_what_is_not_finite_counts_as_zero(x0):
    def breaks(x, sigma, labels=None):
        return torch.where(over(torch.arange(6)) == 2, math.nan, teacher(x, sigma))

    objective = ConsistencyMidTraining('l1', 4)
    draw = objective.draw(x0, **NOW)
    seen = []

    def spy(x, sigma, labels=None):
        seen.append(x)
        return online(x, sigma)

    found = objective(spy, x0, draw, teacher=breaks)
    assert found.isfinite().all()
    points = seen[0].unflatten(0, (4, 6))
    assert (points[0] != 0).all()
    assert (points[1:, 2] == 0).all()
    plain = objective(online, x0, draw, teacher=teacher)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found[others], plain[others])


def test_draws_come_from_the_generator(x0):
    objective = ConsistencyMidTraining('l2')
    draws = [
        objective.draw(x0, **NOW, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0].noise, draws[1].noise)
    assert not torch.equal(draws[0].noise, draws[2].noise)
    assert draws[0].sigma.tolist() == [80.0] * 6
    assert draws[0].next_sigma.tolist() == [0.002] * 6


def test_a_teacher_is_needed(x0):
    objective = ConsistencyMidTraining('l2')
    with pytest.raises(InputError, match='teacher'):
        objective(online, x0, objective.draw(x0, **NOW))


@pytest.mark.slow
def test_mid_training_learns_the_flow_of_a_mixture(load_script):
    """A small network on a line, with the exact teacher; the median distance of its samples."""
    tests = load_script('tests/test_objectives/test_distillation.py')
    mixture, student = tests.Mixture(), KarrasDenoiser(tests.Student())
    objective, steps = ConsistencyMidTraining('l2', 8), 1000
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        x = mixture.sample(64)
        draw = objective.draw(x, step, steps)
        objective(student, x, draw, teacher=mixture.denoise).mean().backward()
        optimizer.step()
        schedule.step()
    x = 80 * torch.linspace(-2, 2, 401).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        drawn = student(x, torch.full((401,), 80.0))
    assert (drawn - mixture.flow(x)).abs().median() < 0.15
