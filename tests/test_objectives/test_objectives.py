"""What training minimises: the reference's losses, formulas, minimisers, and who gets gradients."""

import math

import pytest
import torch

from mmagic_cm.diffusion.distances import PseudoHuber
from mmagic_cm.diffusion.schedules import FixedCurriculum, karras_sigmas
from mmagic_cm.diffusion.solvers import euler_step
from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.objectives import (
    ConsistencyTraining,
    DenoisingScoreMatching,
    Draw,
    EasyConsistencyTuning,
    ImprovedConsistencyTraining,
    StagedObjective,
)
from mmagic_cm.registry import MODELS

NOW = dict(step=0, total_steps=100)
OBJECTIVES = [
    DenoisingScoreMatching(),
    ConsistencyTraining(),
    ImprovedConsistencyTraining(),
    EasyConsistencyTuning(),
    StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, EasyConsistencyTuning())]),
]


def by_name(objective):
    return type(objective).__name__


def over(sigma):
    """(N,) -> (N, 1, 1, 1)."""
    return sigma.reshape(-1, 1, 1, 1)


def online_network(x, timestep):
    return 0.5 * x.tanh() + over(timestep) / 10000


def target_network(x, timestep):
    return 0.4 * x.sin()


def pairs(noise, indices, num_scales):
    """A draw of neighbours on the grid."""
    grid = karras_sigmas(num_scales)
    return Draw(noise, grid[indices], grid[indices + 1])


def at(noise, sigma):
    """A draw for denoising."""
    return Draw(noise, sigma, torch.zeros_like(sigma))


def shrink(x, sigma, labels=None):
    """A denoiser that is consistent with nothing, so that every mix-up shows."""
    return x / (1 + over(sigma) ** 2) + 0.01 * over(sigma)


@pytest.fixture
def x0():
    return torch.rand(6, 1, 4, 4) * 2 - 1


@pytest.mark.parametrize('norm', ['l1', 'l2', 'l2-32'])
@pytest.mark.parametrize('weighting', ['uniform', 'snr', 'snr+1', 'karras', 'truncated-snr'])
def test_consistency_training_rows_of_the_reference(norm, weighting, goldens):
    recorded = goldens('losses')
    num_scales = int(recorded['num_scales'])
    objective = ConsistencyTraining(
        distance=norm, weighting=weighting, curriculum=FixedCurriculum(0.95, num_scales)
    )
    found = objective(
        KarrasDenoiser(online_network),
        recorded['x_start'],
        pairs(recorded['noise'], recorded['indices'], num_scales),
        target=KarrasDenoiser(target_network),
    )
    # Relative too: the weights make some losses as small as 1e-6.
    expected = recorded[f'ct/{norm}/{weighting}']
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('weighting', ['uniform', 'snr', 'snr+1', 'karras', 'truncated-snr'])
def test_denoising_rows_of_the_reference(weighting, goldens):
    recorded = goldens('losses')
    found = DenoisingScoreMatching(weighting=weighting)(
        KarrasDenoiser(online_network, 'edm'),
        recorded['x_start'],
        at(recorded['noise'], recorded['edm_sigmas']),
    )
    torch.testing.assert_close(found, recorded[f'edm/{weighting}'], rtol=1e-5, atol=1e-5)


def test_every_recorded_row_is_tested(goldens):
    rows = {key for key in goldens('losses') if key.startswith(('ct/', 'edm/'))}
    weightings = ['uniform', 'snr', 'snr+1', 'karras', 'truncated-snr']
    ours = {f'ct/{norm}/{w}' for norm in ('l1', 'l2', 'l2-32') for w in weightings}
    assert rows == ours | {f'edm/{w}' for w in weightings}


@pytest.mark.parametrize('objective', OBJECTIVES, ids=by_name)
@pytest.mark.parametrize('step', [0, 50, 99])
def test_draws_come_from_the_generator(objective, step, x0):
    def draw(seed):
        return objective.draw(x0, step, 100, torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = draw(1), draw(1), draw(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.noise.shape == x0.shape
    for name in ('noise', 'sigma', 'next_sigma'):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert len(getattr(first, name)) == len(x0)
    assert not torch.equal(first.noise, other.noise)
    assert (first.sigma > first.next_sigma).all()
    assert (first.next_sigma >= 0).all()


@pytest.mark.parametrize('objective', OBJECTIVES, ids=by_name)
def test_labels_go_with_every_evaluation(objective, x0):
    labels = torch.arange(len(x0))
    seen = []

    def denoiser(x, sigma, labels):
        seen.append(labels)
        return shrink(x, sigma)

    target = dict(target=denoiser) if objective.needs_target else {}
    objective(denoiser, x0, objective.draw(x0, **NOW), labels, **target)
    assert seen
    assert all(given is labels for given in seen)


STAGED = OBJECTIVES[-1]
WITH_TARGET = StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, ConsistencyTraining())])


@pytest.mark.parametrize(
    ('objective', 'roles', 'match'),
    [
        (ConsistencyTraining(), [], 'target'),
        (ConsistencyTraining(), ['target', 'teacher'], 'teacher'),
        (ImprovedConsistencyTraining(), ['target'], 'target'),
        (EasyConsistencyTuning(), ['teacher'], 'teacher'),
        (STAGED, ['target'], 'target'),
        (STAGED, ['teacher'], 'teacher'),
        (WITH_TARGET, [], 'target'),
    ],
)
@pytest.mark.parametrize('step', [0, 99])
def test_roles_are_given_exactly_where_needed(objective, roles, match, step, x0):
    given = dict.fromkeys(roles, shrink)
    with pytest.raises(InputError, match=match):
        objective(shrink, x0, objective.draw(x0, step, 100), **given)


# --- the paper's consistency training ---


@pytest.mark.parametrize('num_scales', [2, 5, 18])
def test_indices_are_uniform_over_the_intervals(num_scales):
    objective = ConsistencyTraining(curriculum=FixedCurriculum(0.9, num_scales))
    n = 20_000
    draw = objective.draw(torch.zeros(n, 1, 1, 1), **NOW, generator=torch.Generator())
    grid = karras_sigmas(num_scales)
    shares = (draw.sigma[:, None] == grid[:-1]).float().mean(0)
    assert shares.sum() == pytest.approx(1)
    p = 1 / (num_scales - 1)
    assert (shares - p).abs().max() <= 5 * math.sqrt(p * (1 - p) / n)
    assert torch.equal(draw.next_sigma, grid[torch.searchsorted(-grid, -draw.sigma) + 1])


def test_the_second_point_is_an_euler_step_from_the_first(x0):
    """With x0 for the denoiser, Euler's step from x0 + t z ends at x0 + t' z (theorem 2)."""
    objective = ConsistencyTraining()
    seen = {}

    def spy(role):
        def denoiser(x, sigma, labels):
            seen[role] = (x, sigma)
            return x

        return denoiser

    noise, indices = torch.randn_like(x0), torch.tensor([0, 1, 2, 3, 4, 4])
    objective(spy('online'), x0, pairs(noise, indices, 6), target=spy('target'))
    (x, sigma), (x_next, next_sigma) = seen['online'], seen['target']
    grid = karras_sigmas(6)
    assert torch.equal(sigma, grid[indices])
    assert torch.equal(next_sigma, grid[indices + 1])
    assert torch.equal(x, x0 + over(sigma) * noise)
    assert torch.equal(x_next, x0 + over(next_sigma) * noise)
    stepped = euler_step(lambda x, sigma: x0, x, sigma, next_sigma)
    torch.testing.assert_close(x_next, stepped, rtol=1e-5, atol=1e-4)


def consistency_of_a_point(image):
    """All trajectories to one image are straight: x at sigma goes to image + sigma_min z."""
    return lambda x, sigma, labels=None: image + (x - image) * 0.002 / over(sigma)


@pytest.mark.parametrize('kind', [ConsistencyTraining, ImprovedConsistencyTraining])
def test_a_self_consistent_denoiser_has_no_loss(kind, x0):
    curriculum = FixedCurriculum(0.9, 12)
    objective = kind(distance='l1', weighting='uniform', curriculum=curriculum)
    exact = consistency_of_a_point(x0)
    target = dict(target=exact) if objective.needs_target else {}
    draw = objective.draw(x0, **NOW)
    assert objective(exact, x0, draw, **target).max() < 1e-6
    wrong = consistency_of_a_point(x0 + 0.1)
    target = dict(target=wrong) if objective.needs_target else {}
    assert objective(wrong, x0, draw, **target).max() > 1e-3


# --- improved consistency training ---


@pytest.mark.parametrize(('step', 'num_scales'), [(0, 11), (99, 1281)])
def test_ict_draws_the_published_probabilities(step, num_scales):
    """p(i) ~ erf((ln s_i + 1.1) / (2 sqrt 2)) - erf((ln s_{i+1} + 1.1) / (2 sqrt 2))."""
    n = 200_000
    draw = ImprovedConsistencyTraining().draw(
        torch.zeros(n, 1, 1, 1), step, 100, torch.Generator().manual_seed(0)
    )
    indices = torch.searchsorted(-karras_sigmas(num_scales), -draw.sigma)
    grid = karras_sigmas(num_scales).double()
    cdf = torch.erf((grid.log() + 1.1) / (2 * math.sqrt(2)))
    p = (cdf[:-1] - cdf[1:]) / (cdf[0] - cdf[-1])
    shares = indices.bincount(minlength=num_scales - 1) / n
    # Five standard errors of each bin, and room for the last few draws of a rare one.
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 2 / n).all()


def test_ict_by_its_formula(x0):
    """d(D(x0 + t z, t), stop D(x0 + t' z, t')) / (t - t'), pseudo-Huber, no target network."""
    scale = torch.tensor(0.7, requires_grad=True)
    noise, indices = torch.randn_like(x0), torch.tensor([0, 2, 4, 6, 8, 9])
    grid = karras_sigmas(11)
    sigma, next_sigma = grid[indices], grid[indices + 1]

    def denoiser(x, sigma, labels=None):
        return scale * shrink(x, sigma)

    found = ImprovedConsistencyTraining()(denoiser, x0, Draw(noise, sigma, next_sigma))
    a = denoiser(x0 + over(sigma) * noise, sigma)
    b = denoiser(x0 + over(next_sigma) * noise, next_sigma).detach()
    c = 0.00054 * math.sqrt(x0[0].numel())
    expected = (((a - b) ** 2).sum((1, 2, 3)) + c**2).sqrt() - c
    expected = expected / (sigma - next_sigma)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(losses.sum(), scale)[0] for losses in (found, expected)]
    torch.testing.assert_close(*gradients)


# --- easy consistency tuning ---


@pytest.mark.parametrize(('q', 'num_stages'), [(2.0, 8), (4.0, 4), (256.0, 1)])
@pytest.mark.parametrize('step', [0, 99, 100, 399, 799, 800, 1000])
def test_ect_next_level(q, num_stages, step):
    """r = t (1 - (1 + 8 sigmoid(-t)) / q^(stage + 1)), at least 0."""
    sigma = torch.tensor([0.01, 0.5, 1.9, 2.0, 10.0, 80.0])
    stage = min(step // (800 // num_stages), num_stages - 1)
    expected = [
        max(t * (1 - (1 + 8 / (1 + math.exp(t))) / q ** (stage + 1)), 0.0) for t in sigma.tolist()
    ]
    objective = EasyConsistencyTuning(q=q, num_stages=num_stages)
    found = objective.next_level(sigma, step, 800)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-7)
    assert (found < sigma).all()


def test_ect_by_its_formula(x0):
    """The target is evaluated at r on the same noise, without gradient; at r = 0 it is x0."""
    scale = torch.tensor(0.7, requires_grad=True)
    objective, noise = EasyConsistencyTuning(), torch.randn_like(x0)
    sigma = torch.tensor([0.01, 1.0, 1.9, 2.5, 10.0, 80.0])
    next_sigma = objective.next_level(sigma, **NOW)
    assert next_sigma[:3].tolist() == [0, 0, 0]  # below ln 7 the first stage reaches down to 0
    assert (next_sigma[3:] > 0).all()

    def denoiser(x, sigma, labels=None):
        return scale * shrink(x, sigma)

    found = objective(denoiser, x0, Draw(noise, sigma, next_sigma))
    a = denoiser(x0 + over(sigma) * noise, sigma)
    b = denoiser(x0 + over(next_sigma) * noise, next_sigma).detach()
    b[:3] = x0[:3]
    c = 0.00054 * math.sqrt(x0[0].numel())
    expected = (((a - b) ** 2).sum((1, 2, 3)) + c**2).sqrt() - c
    expected = expected / (sigma - next_sigma)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(losses.sum(), scale)[0] for losses in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_ect_arguments(x0):
    narrow = EasyConsistencyTuning(k=0.0, q=4.0)
    assert torch.equal(narrow.next_level(torch.tensor([1.0]), **NOW), torch.tensor([0.75]))
    steep = EasyConsistencyTuning(b=1000.0, q=4.0)
    assert torch.equal(steep.next_level(torch.tensor([1.0]), **NOW), torch.tensor([0.75]))
    assert EasyConsistencyTuning(c=0.5).distance.c == 0.5
    assert isinstance(EasyConsistencyTuning().distance, PseudoHuber)
    n = 50_000
    sigmas = EasyConsistencyTuning().draw(torch.zeros(n, 1, 1, 1), **NOW).sigma.log()
    assert sigmas.mean().item() == pytest.approx(-1.1, abs=5 * 2 / math.sqrt(n))
    assert sigmas.std().item() == pytest.approx(2.0, abs=5 * 2 / math.sqrt(2 * n))


# --- denoising score matching ---


def test_dsm_levels():
    n = 50_000
    sigmas = DenoisingScoreMatching().draw(torch.zeros(n, 1, 1, 1), **NOW).sigma.log()
    assert sigmas.mean().item() == pytest.approx(-1.2, abs=5 * 1.2 / math.sqrt(n))
    assert sigmas.std().item() == pytest.approx(1.2, abs=5 * 1.2 / math.sqrt(2 * n))


@pytest.mark.parametrize('sigma', [0.1, 0.5, 3.0])
def test_dsm_is_minimised_by_the_posterior_mean(sigma, gaussian):
    n, d = 50, 50
    x0 = gaussian.mean + math.sqrt(gaussian.variance) * torch.randn(n, 1, d, d)
    draw = at(torch.randn_like(x0), torch.full((n,), sigma))

    def loss(gain=1.0, shift=0.0):
        def denoiser(x, sigma, labels):
            exact = gaussian.denoise(x, sigma)
            return gaussian.mean + gain * (exact - gaussian.mean) + shift

        return DenoisingScoreMatching()(denoiser, x0, draw).mean().item()

    # The data's variance is sigma_data^2: EDM's weight makes the least loss 1 at every level.
    error = 5 * math.sqrt(2 / x0.numel())
    assert loss() == pytest.approx(1, abs=error)
    for worse in (dict(gain=0.8), dict(gain=1.2), dict(shift=0.2), dict(shift=-0.2)):
        assert loss(**worse) > loss()


# --- stages ---


class SpiedCurriculum:
    """Tells which steps it was asked about."""

    def __init__(self, target_ema=0.9, num_scales=5):
        self.answer = target_ema, num_scales
        self.asked = set()

    def __call__(self, step, total_steps):
        self.asked.add((step, total_steps))
        return self.answer


@pytest.mark.parametrize(
    ('step', 'stage', 'local'),
    [
        (0, 0, (0, 5)),
        (4, 0, (4, 5)),
        (5, 1, (0, 15)),
        (12, 1, (7, 15)),
        (19, 1, (14, 15)),
        (20, 1, (15, 15)),  # a step past the end, as a resumed run may ask for
    ],
)
def test_stages_count_their_own_steps(step, stage, local, x0):
    curricula = [SpiedCurriculum(0.8, 4), SpiedCurriculum(0.9, 7)]
    objectives = [ConsistencyTraining(curriculum) for curriculum in curricula]
    staged = StagedObjective([(0.25, objectives[0]), (1.0, objectives[1])])
    assert staged.target_ema(step, 20) == curricula[stage].answer[0]
    assert staged.curriculum(step, 20) == curricula[stage].answer
    draw = staged.draw(x0, step, 20)
    assert draw.stage == stage
    assert set(draw.sigma.tolist()) <= set(karras_sigmas(curricula[stage].answer[1]).tolist())
    found = staged(shrink, x0, draw, target=shrink)
    assert curricula[stage].asked == {local}
    assert not curricula[1 - stage].asked
    assert torch.equal(found, objectives[stage](shrink, x0, draw, target=shrink))


def test_stages_need_what_any_of_them_needs(x0):
    assert WITH_TARGET.needs_target
    assert not STAGED.needs_target
    assert not STAGED.needs_teacher
    assert not WITH_TARGET.needs_teacher
    # A stage that does not use the target gets none, and keeps it equal to the online network.
    draw = WITH_TARGET.draw(x0, 0, 100)
    found = WITH_TARGET(shrink, x0, draw, target=lambda *_: 1 / 0)
    expected = DenoisingScoreMatching()(shrink, x0, draw)
    assert torch.equal(found, expected)
    assert WITH_TARGET.target_ema(0, 100) == 0.0
    ct = ConsistencyTraining()
    assert WITH_TARGET.target_ema(50, 100) == ct.target_ema(0, 50) > 0
    assert WITH_TARGET.target_ema(99, 100) == ct.target_ema(49, 50) > ct.target_ema(0, 50)


@pytest.mark.parametrize('ends', [[], [0.5], [0.5, 0.5, 1.0], [0.7, 0.5, 1.0], [0.0, 1.0], [1.5]])
def test_ends_of_stages_rise_to_one(ends):
    with pytest.raises(InputError, match='must rise'):
        StagedObjective([(end, DenoisingScoreMatching()) for end in ends])


def test_target_ema():
    assert ConsistencyTraining(FixedCurriculum(0.95, 18)).target_ema(0, 10) == 0.95
    # 2 -> 150 scales from 0.9: mu = 0.9^2 at one interval.
    assert ConsistencyTraining().target_ema(0, 10) == pytest.approx(0.81)
    assert ImprovedConsistencyTraining().target_ema(5, 10) == 0
    assert DenoisingScoreMatching().target_ema(5, 10) == 0


def test_build_from_a_config(x0):
    objective = MODELS.build(
        dict(
            type='StagedObjective',
            stages=[
                (0.5, dict(type='DenoisingScoreMatching', distance='l1', weighting='snr')),
                (
                    1.0,
                    dict(
                        type='ConsistencyTraining',
                        distance=dict(type='pseudo-huber', c=0.1),
                        curriculum=dict(type='FixedCurriculum', target_ema=0.5, num_scales=3),
                    ),
                ),
            ],
        )
    )
    assert objective.target_ema(9, 10) == 0.5
    assert objective.objectives[1].distance.c == 0.1
    draw = objective.draw(x0, 0, 10)
    found = objective(shrink, x0, draw, target=shrink)
    by_hand = (shrink(x0 + over(draw.sigma) * draw.noise, draw.sigma) - x0).abs()
    torch.testing.assert_close(found, by_hand.mean((1, 2, 3)) / draw.sigma**2)


def test_the_noise_range_is_the_denoisers():
    denoiser = KarrasDenoiser(
        online_network, sigma_data=0.3, sigma_min=0.01, sigma_max=40.0, rho=5.0
    )
    own = ConsistencyTraining(curriculum=FixedCurriculum(0.9, 6))
    bound = own.within(denoiser)
    assert torch.equal(bound.grid(**NOW), karras_sigmas(6, 0.01, 40.0, 5.0))
    assert torch.equal(own.grid(**NOW), karras_sigmas(6))
    assert bound.sigma_data == 0.3
    narrow = ConsistencyTraining(sigma_max=20.0, curriculum=FixedCurriculum(0.9, 6))
    assert torch.equal(narrow.within(denoiser).grid(**NOW), karras_sigmas(6, 0.01, 20.0, 5.0))
    staged = StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, own)]).within(denoiser)
    assert torch.equal(staged.grid(99, 100), bound.grid(**NOW))
    for wrong in (dict(sigma_max=80.0), dict(sigma_min=0.002), dict(sigma_data=0.5)):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ConsistencyTraining(**wrong).within(denoiser)
