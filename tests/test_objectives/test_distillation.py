"""Distillation: the reference's losses, closed forms of a Gaussian teacher, guidance."""

import math
from dataclasses import replace

import pytest
import torch

from mmagic_cm.diffusion.guidance import NO_CLASS, drop_labels, guided
from mmagic_cm.diffusion.schedules import FixedCurriculum, HalvingCurriculum, karras_sigmas
from mmagic_cm.diffusion.solvers import euler_step
from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    Draw,
    ProgressiveDistillation,
    StagedObjective,
)

NOW = dict(step=0, total_steps=100)
WEIGHTINGS = ['uniform', 'snr', 'snr+1', 'karras', 'truncated-snr']


def over(values):
    """(N,) -> (N, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def pairs(noise, indices, levels):
    """A draw of neighbours on a grid."""
    return Draw(noise, levels[indices], levels[indices + 1])


def online_network(x, timestep):
    return 0.5 * x.tanh() + over(timestep) / 10000


def target_network(x, timestep):
    return 0.4 * x.sin()


def teacher_network(x, timestep):
    return 0.3 * x.cos() - 0.1


@pytest.fixture
def x0():
    return torch.rand(6, 1, 4, 4) * 2 - 1


# --- the reference's numbers ---


@pytest.mark.parametrize('norm', ['l1', 'l2', 'l2-32'])
@pytest.mark.parametrize('weighting', WEIGHTINGS)
def test_consistency_distillation_rows_of_the_reference(norm, weighting, goldens):
    recorded = goldens('losses')
    found = ConsistencyDistillation(distance=norm, weighting=weighting)(
        KarrasDenoiser(online_network),
        recorded['x_start'],
        pairs(recorded['noise'], recorded['indices'], karras_sigmas(int(recorded['num_scales']))),
        target=KarrasDenoiser(target_network),
        teacher=KarrasDenoiser(teacher_network, 'edm'),
    )
    expected = recorded[f'cd/{norm}/{weighting}']
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('norm', ['l1', 'l2'])
@pytest.mark.parametrize('weighting', WEIGHTINGS)
def test_progressive_distillation_rows_of_the_reference(norm, weighting, goldens):
    recorded = goldens('losses')
    num_scales = int(recorded['num_scales'])
    objective = ProgressiveDistillation(distance=norm, weighting=weighting)
    objective.curriculum = FixedCurriculum(1.0, num_scales)
    found = objective(
        KarrasDenoiser(online_network),
        recorded['x_start'],
        pairs(recorded['noise'], recorded['indices'], objective.grid(**NOW)),
        teacher=KarrasDenoiser(teacher_network, 'edm'),
    )
    expected = recorded[f'progdist/{norm}/{weighting}']
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_every_recorded_row_is_tested(goldens):
    rows = {key for key in goldens('losses') if key.startswith(('cd/', 'progdist/'))}
    ours = {f'cd/{norm}/{w}' for norm in ('l1', 'l2', 'l2-32') for w in WEIGHTINGS}
    assert rows == ours | {f'progdist/{norm}/{w}' for norm in ('l1', 'l2') for w in WEIGHTINGS}


# --- consistency distillation ---


@pytest.mark.parametrize(('solver', 'order'), [('euler', 1), ('heun', 2)])
def test_the_exact_consistency_function_has_no_loss_but_the_solver_error(solver, order, gaussian):
    """Theorem 1: the loss of f_exact is the local error of one step of the teacher's solver."""
    x0 = gaussian.mean + 0.5 * torch.randn(8, 1, 4, 4, dtype=torch.float64)
    noise = torch.randn_like(x0)

    def exact(x, sigma, labels=None):
        return gaussian.flow(x, sigma.double(), 0.002)

    def loss(num_scales):
        objective = ConsistencyDistillation('l1', solver=solver)
        # The step that begins at the same level in each grid.
        indices = torch.full((len(x0),), (num_scales - 1) // 2)
        draw = pairs(noise, indices, karras_sigmas(num_scales))
        return objective(exact, x0, draw, target=exact, teacher=gaussian.denoise).mean().item()

    coarse, fine, finest = (loss(n) for n in (41, 81, 161))
    for ratio in (coarse / fine, fine / finest):
        assert math.log2(ratio) == pytest.approx(order + 1, abs=0.3)


def test_target_and_teacher_are_asked_at_the_right_points(x0):
    indices = torch.tensor([0, 1, 2, 3, 4, 4])
    grid = karras_sigmas(6)
    asked = []

    def spy(role, shift):
        def denoiser(x, sigma, labels):
            asked.append((role, x.clone(), sigma.clone(), labels))
            return x * 0.5 + shift

        return denoiser

    objective = ConsistencyDistillation(solver='heun')
    labels, noise = torch.arange(6), torch.randn_like(x0)
    roles = dict(target=spy('target', 0.2), teacher=spy('teacher', 0.1))
    objective(spy('online', 0), x0, pairs(noise, indices, grid), labels, **roles)
    assert [role for role, *_ in asked] == ['teacher', 'teacher', 'target', 'online']
    assert all(given is labels for *_, given in asked)
    first, second, target, online = (sigma for _, _, sigma, _ in asked)
    assert torch.equal(first, grid[indices])
    assert torch.equal(online, grid[indices])
    assert torch.equal(second, grid[indices + 1])  # never 0
    assert torch.equal(target, grid[indices + 1])
    assert torch.equal(asked[0][1], asked[3][1])


def test_unknown_solver():
    with pytest.raises(InputError, match="'heun'"):
        ConsistencyDistillation(solver='huen')


@pytest.mark.parametrize('kind', [ConsistencyDistillation, ProgressiveDistillation])
def test_a_teacher_is_needed(kind, x0):
    denoiser = KarrasDenoiser(online_network)
    target = dict(target=denoiser) if kind.needs_target else {}
    with pytest.raises(InputError, match='teacher'):
        kind()(denoiser, x0, kind().draw(x0, **NOW), **target)


# --- guidance ---


def labelled(x, sigma, labels):
    """A denoiser whose answer tells its label."""
    return x * 0 + over(labels.float()) * 10 + over(sigma)


def test_guidance(x0):
    labels, sigma = torch.arange(6), torch.full((6,), 0.5)
    conditional = labelled(x0, sigma, labels)
    unconditional = labelled(x0, sigma, torch.full((6,), NO_CLASS))
    assert torch.equal(guided(labelled, 1)(x0, sigma, labels), conditional)
    assert torch.equal(guided(labelled, 0)(x0, sigma, labels), unconditional)
    scales = torch.linspace(0.5, 3, 6)
    found = guided(labelled, scales)(x0, sigma, labels)
    expected = unconditional + over(scales) * (conditional - unconditional)
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match='labels'):
        guided(labelled, 2.0)(x0, sigma, None)


def test_conditions_go_with_every_evaluation(x0):
    """Through guidance, solver, target and online network."""
    told = dict(next_sigma=torch.rand(6), guidance=torch.rand(6))

    def denoise(x, sigma, labels, *, next_sigma, guidance):
        for found, given in ((next_sigma, 'next_sigma'), (guidance, 'guidance')):
            assert torch.equal(found, told[given].repeat(len(x) // 6))
        calls.append(len(x))
        return labelled(x, sigma, labels)

    calls: list[int] = []
    objective = ConsistencyDistillation(guidance_scale=2.0)
    roles = dict(target=denoise, teacher=denoise)
    objective(denoise, x0, objective.draw(x0, **NOW), torch.arange(6), **roles, **told)
    assert calls == [12, 12, 6, 6]


def test_dropped_labels():
    labels = torch.arange(20_000) % 10
    dropped = drop_labels(labels, 0.1, torch.Generator().manual_seed(0))
    gone = dropped == NO_CLASS
    assert gone.float().mean().item() == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 20_000))
    assert torch.equal(dropped[~gone], labels[~gone])
    again = drop_labels(labels, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(dropped, again)
    assert torch.equal(drop_labels(labels, 0.0), labels)


@pytest.mark.parametrize(('scale', 'low', 'high'), [(2.0, 2.0, 2.0), ((1.0, 4.0), 1.0, 4.0)])
def test_distillation_of_a_guided_teacher(scale, low, high, x0):
    curriculum = FixedCurriculum(0.9, 6)
    objective = ConsistencyDistillation(curriculum=curriculum, guidance_scale=scale)
    n = 10_000
    many = objective.draw(torch.zeros(n, 1, 1, 1), **NOW).guidance
    assert many.min() >= low
    assert many.max() <= high
    assert many.mean().item() == pytest.approx((low + high) / 2, abs=(high - low) / 50)

    labels = torch.arange(6)
    draw = objective.draw(x0, **NOW)
    found = objective(labelled, x0, draw, labels, target=labelled, teacher=labelled)
    by_hand = guided(labelled, draw.guidance)
    plain = replace(draw, guidance=None)
    expected = objective(labelled, x0, plain, labels, target=labelled, teacher=by_hand)
    assert torch.equal(found, expected)


# --- progressive distillation ---


def test_progressive_target_by_hand(gaussian, x0):
    """The student's one Euler step from t to t'' ends where the teacher's two did."""
    objective = ProgressiveDistillation(curriculum=HalvingCurriculum(4, 10))
    draw = objective.draw(x0, **NOW)
    fine = karras_sigmas(9)
    torch.testing.assert_close(objective.grid(**NOW), fine[::2], rtol=1e-6, atol=0)
    indices = (fine[:, None] - draw.sigma).abs().argmin(0)
    sigma, middle, end = draw.sigma, fine[indices + 1], draw.next_sigma
    x = x0 + over(sigma) * draw.noise
    x_end = euler_step(gaussian.denoise, x, sigma, middle)
    x_end = euler_step(gaussian.denoise, x_end, middle, end)
    seen = {}

    def perfect(x, sigma, labels):
        # The answer from which Euler's step lands at x_end.
        seen['x'], seen['sigma'] = x, sigma
        return x + (x_end - x) * over(sigma / (sigma - end))

    losses = objective(perfect, x0, draw, teacher=gaussian.denoise)
    assert torch.equal(seen['sigma'], sigma)
    torch.testing.assert_close(seen['x'], x)
    assert losses.max() < 1e-8
    landed = euler_step(lambda x, s: perfect(x, s, None), x, sigma, end)
    torch.testing.assert_close(landed, x_end, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('step', 'num_steps'), [(0, 8), (9, 8), (10, 4), (20, 2), (40, 1), (99, 1)]
)
def test_progressive_stages_draw_from_their_own_grid(step, num_steps):
    objective = ProgressiveDistillation(curriculum=HalvingCurriculum(8, 10))
    draw = objective.draw(torch.zeros(500, 1, 1, 1), step, 60)
    grid = objective.grid(step, 60)
    assert set(draw.sigma.tolist()) == set(grid[:-1].tolist())
    assert set(draw.next_sigma.tolist()) == set(grid[1:].tolist())
    assert len(grid) == num_steps + 1
    assert grid[0] == 80
    assert grid[-1] == pytest.approx(0.002)


def test_only_the_student_learns(x0):
    weights = dict.fromkeys(('online', 'target', 'teacher'))
    roles = {}
    for role in weights:
        weights[role] = torch.tensor(0.5, requires_grad=True)
        roles[role] = lambda x, sigma, labels, w=weights[role]: w * x
    for kind in (ConsistencyDistillation, ProgressiveDistillation, ConsistencyTraining):
        online = roles['online']
        given = {k: roles[k] for k in ('target', 'teacher') if getattr(kind, f'needs_{k}')}
        kind()(online, x0, kind().draw(x0, **NOW), **given).sum().backward()
        assert weights['online'].grad != 0
        assert weights['target'].grad is None
        assert weights['teacher'].grad is None
        weights['online'].grad = None


def test_stages_hand_the_teacher_on(x0):
    staged = StagedObjective([(0.5, ConsistencyDistillation()), (1.0, ProgressiveDistillation())])
    assert staged.needs_teacher
    roles = dict(target=labelled, teacher=labelled)
    for step in (0, 99):
        losses = staged(labelled, x0, staged.draw(x0, step, 100), torch.arange(6), **roles)
        assert losses.shape == (6,)


# --- the whole of consistency distillation, with an exact teacher ---


class Mixture:
    """Four Gaussians on a line, for which the denoiser has a closed form."""

    means = torch.tensor([-1.2, -0.4, 0.5, 1.0])
    std = 0.1

    def denoise(self, x, sigma, labels=None):
        variance = over(self.std**2 + sigma.to(x.dtype) ** 2).unsqueeze(-1)
        means = self.means.to(x.dtype)
        distance = x.unsqueeze(-1) - means
        posterior = (-(distance**2) / (2 * variance)).softmax(-1)
        return (posterior * (means + self.std**2 / variance * distance)).sum(-1)

    def sample(self, n):
        component = torch.randint(len(self.means), (n,))
        return (self.means[component] + self.std * torch.randn(n)).reshape(n, 1, 1, 1)

    def flow(self, x):
        """Where the PF-ODE takes x from sigma = 80, in 2,000 Euler-Heun steps of float64."""
        from mmagic_cm.diffusion.samplers import sample_heun

        return sample_heun(self.denoise, x.double(), karras_sigmas(2000).double()).float()


class Student(torch.nn.Module):
    """A small network F(x, timestep) on a line."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
            torch.nn.Linear(64, 1),
        )  # fmt: skip

    def forward(self, x, timestep):
        features = torch.stack([x.flatten(), timestep / 500], 1)
        return self.layers(features).reshape(x.shape)


def distil(num_scales: int, steps: int) -> float:
    """Median distance of the student's one-step samples to the exact flow."""
    torch.manual_seed(0)
    mixture = Mixture()
    online = KarrasDenoiser(Student())
    curriculum = FixedCurriculum(0.0, num_scales)
    objective = ConsistencyDistillation('l2', curriculum=curriculum, solver='euler')
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        x0 = mixture.sample(256)
        draw = objective.draw(x0, step, steps)
        objective(online, x0, draw, target=online, teacher=mixture.denoise).mean().backward()
        optimizer.step()
        schedule.step()
    x = 80 * torch.linspace(-2, 2, 401).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        drawn = online(x, torch.full((401,), 80.0))
    return (drawn - mixture.flow(x)).abs().median().item()


@pytest.mark.slow
def test_distillation_approaches_the_exact_flow_as_the_grid_grows():
    errors = {num_scales: distil(num_scales, steps=3000) for num_scales in (4, 10, 40)}
    print(errors)
    assert errors[4] > 1.5 * errors[10] > 1.5 * 1.5 * errors[40]
    assert errors[40] < 0.1
