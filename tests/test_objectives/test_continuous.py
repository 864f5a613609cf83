"""sCT and sCD: the reference's rows, closed forms of Gaussian data, and runs."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.models.consistency_model import TrainingProgress
from mmagic_cm.networks.layers import in_jvp
from mmagic_cm.objectives import (
    ContinuousConsistencyDistillation,
    ContinuousConsistencyTraining,
    DenoisingScoreMatching,
    StagedObjective,
)
from mmagic_cm.objectives.continuous import TangentDraw, jvp
from mmagic_cm.registry import MODELS

DTYPES = [torch.float32, torch.float64]
KINDS = dict(sct=ContinuousConsistencyTraining, scd=ContinuousConsistencyDistillation)


def over(values):
    """(N,) -> (N, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def trigflow(network):
    """D(x, sigma) of F(y, t) at sigma_data 0.5, in any precision."""

    def denoise(x, sigma, labels=None):
        sigma = over(sigma).to(x.dtype)
        length = (sigma**2 + 0.25).sqrt()
        y, t = x / length, torch.atan(sigma / 0.5)
        return 0.25 / length**2 * x - 0.5 * sigma / length * network(y, t)

    return denoise


def learner(y, t, scale=1.0):
    return scale * (0.5 * y.tanh() + 0.3 * (2 * t).sin() * y - 0.1 * (3 * t).cos())


def frozen(y, t):
    return 0.4 * y.sin() * t.cos() - 0.2 * t


def roles(mode):
    return dict(teacher=trigflow(frozen)) if mode == 'scd' else {}


def batch_at(recorded, k, dtype):
    """The recorded images, and their draw at a moment of the warm-up."""
    x0, noise, sigma = (recorded[name].to(dtype) for name in ('x0', 'noise', 'sigmas'))
    return x0, TangentDraw(noise, sigma, sigma, warmup=float(recorded['warmup'][k]))


def close(found, expected, dtype):
    """To 1e-6; in float32 less where D, to be divided by sin t = 0.02, has seven digits."""
    tolerance = dict(rtol=1e-4, atol=2e-5) if dtype is torch.float32 else dict(rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, expected.to(dtype), **tolerance)


class LogWeight(nn.Module):
    """A weighting that has learned these values, (N,)."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, level):
        return self.values[:, None]


@pytest.fixture
def recorded(goldens):
    return goldens('scm')


@pytest.mark.parametrize('mode', KINDS)
@pytest.mark.parametrize('k', range(4))
@pytest.mark.parametrize('dtype', DTYPES)
def test_tangents_of_the_reference(mode, k, dtype, recorded):
    found = KINDS[mode]().tangent(trigflow(learner), *batch_at(recorded, k, dtype), **roles(mode))
    close(found, recorded[f'{mode}/r{k}/g'], dtype)


@pytest.mark.parametrize('mode', KINDS)
@pytest.mark.parametrize('k', range(4))
@pytest.mark.parametrize('norm', ['l2', 'rms'])
@pytest.mark.parametrize('prior', [True, False])
@pytest.mark.parametrize('dtype', DTYPES)
def test_losses_of_the_reference(mode, k, norm, prior, dtype, recorded):
    objective = KINDS[mode](tangent_norm=norm, prior_weighting=prior)
    objective.log_weight = LogWeight(-recorded['logvar'].to(dtype))
    scale = torch.ones(len(recorded['x0']), dtype=dtype, requires_grad=True)
    online = trigflow(partial(learner, scale=over(scale)))
    losses = objective(online, *batch_at(recorded, k, dtype), **roles(mode))
    name = f'{norm}_{"prior" if prior else "noprior"}'
    close(losses, recorded[f'{mode}/r{k}/loss_{name}'], dtype)
    # The gradient, of each row by the factor of its network.
    slopes = torch.autograd.grad(losses.sum(), scale)[0]
    close(slopes, recorded[f'{mode}/r{k}/dscale_{name}'], dtype)


@pytest.mark.parametrize('k', range(4))
def test_unweighted_losses_of_the_reference(k, recorded):
    objective = ContinuousConsistencyTraining(prior_weighting=False, adaptive_weighting=False)
    found = objective(trigflow(learner), *batch_at(recorded, k, torch.float64))
    close(found, recorded[f'sct/r{k}/unweighted_l2'], torch.float64)


def random_draw(n=6, warmup=1.0):
    """Images, and noise at levels from 0.002 to 80, in float64."""
    x0, noise = torch.randn(2, n, 1, 4, 4, dtype=torch.float64)
    sigma = torch.logspace(math.log10(0.002), math.log10(80), n, dtype=torch.float64)
    return x0, TangentDraw(noise, sigma, sigma, warmup=warmup)


@pytest.mark.parametrize(('mean', 'variance'), [(0.0, 0.25), (0.3, 0.09), (-1.0, 2.0)])
def test_the_exact_map_of_a_gaussian_has_no_tangent(mean, variance, gaussian):
    data = type(gaussian)(mean, variance)
    x0, draw = random_draw()
    exact = lambda x, sigma, labels: data.flow(x, sigma, 0.0)  # noqa: E731
    objective = ContinuousConsistencyDistillation()
    assert objective.tangent(exact, x0, draw, teacher=data.denoise).abs().max() < 1e-12
    # Not before the derivative is all there.
    x0, draw = random_draw(warmup=0.5)
    assert objective.tangent(exact, x0, draw, teacher=data.denoise).abs().max() > 1e-3


def test_a_network_of_zeros_under_the_usual_gaussian(gaussian):
    """F = 0 and F_teacher = 0: what is left is -sin t cos t x_t."""
    data = type(gaussian)(0.0, 0.25)
    x0, draw = random_draw()
    zero = trigflow(lambda y, t: torch.zeros_like(y))
    found = ContinuousConsistencyDistillation().tangent(zero, x0, draw, teacher=data.denoise)
    t = over(torch.atan(draw.sigma / 0.5))
    expected = -t.sin() * t.cos() * t.cos() * draw.at(draw.sigma, x0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_data_of_one_image_have_no_tangent():
    x0, draw = random_draw()
    objective = ContinuousConsistencyTraining()
    assert objective.tangent(lambda x, sigma, labels: x0, x0, draw).abs().max() == 0


def test_levels_and_warm_up():
    x0 = torch.zeros(40000, 1, 1, 1)
    objective = ContinuousConsistencyTraining(warmup_steps=100)
    draw = objective.draw(x0, 25, 1000, torch.Generator().manual_seed(0))
    t = torch.atan(draw.sigma / 0.5)
    expected = torch.tensor([0.12172, 0.27873, 0.63432, 1.08449, 1.34856])
    found = t.quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.015)
    assert draw.warmup == 0.25
    assert objective.draw(x0, 300, 1000).warmup == 1
    assert ContinuousConsistencyTraining(warmup_steps=0).draw(x0, 0, 1000).warmup == 1


def test_the_weighting_learns_the_size_of_the_losses():
    """e^w l - w is least where w = -ln l."""
    objective = ContinuousConsistencyTraining()
    draw = TangentDraw(torch.randn(64, 1, 4, 4), *2 * [torch.linspace(0.1, 2, 64)])
    plain = ContinuousConsistencyTraining(adaptive_weighting=False)
    x0 = torch.randn(64, 1, 4, 4)
    losses = plain(trigflow(learner), x0, draw)
    torch.testing.assert_close(objective(trigflow(learner), x0, draw), losses)  # w starts at 0
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.03)
    for _ in range(80):
        optimizer.zero_grad()
        objective(trigflow(learner), x0, draw).mean().backward()
        optimizer.step()
    level = (draw.sigma.log() + 1) / 1.4
    learned = objective.log_weight(level[:, None])[:, 0]
    assert ((learned + losses.log()).mean()).abs() < 0.05
    assert (learned + losses.log()).std() < 0.5 * losses.log().std()


def test_tangents_that_are_not_finite_count_as_nothing():
    x0, draw = torch.randn(4, 1, 4, 4), torch.randn(4, 1, 4, 4)
    draw = TangentDraw(draw, *2 * [torch.tensor([0.1, 1.0, 2.0, 4.0])])

    def online(x, sigma, labels):
        # Of the second row only the derivative is not finite.
        root = (over(sigma) - 1).abs().clamp(min=0).sqrt()
        return trigflow(learner)(x, sigma) * (1 + root) * weight

    weight = torch.ones(1, requires_grad=True)
    plain = dict(prior_weighting=False, adaptive_weighting=False)
    for objective in (
        ContinuousConsistencyTraining(**plain),
        StagedObjective([(1.0, ContinuousConsistencyTraining(**plain))]),
    ):
        losses = objective(online, x0, draw)
        assert (losses == 0).tolist() == [False, True, False, False]
        assert objective.figures == dict(nonfinite_tangents=0.25)
        losses.sum().backward()
        assert weight.grad.isfinite().all()
    stages = StagedObjective([(0.5, DenoisingScoreMatching()), (1.0, objective.objectives[0])])
    stages(online, x0, stages.draw(x0, 0, 2))
    assert stages.figures == {}


@pytest.mark.parametrize('mode', KINDS)
def test_labels_and_conditions_go_with_every_evaluation(mode):
    x0, labels, scale = torch.randn(3, 1, 4, 4), torch.arange(3), torch.ones(3)
    seen = []

    def denoise(x, sigma, labels, *, guidance):
        seen.append((labels, guidance))
        return trigflow(learner)(x, sigma)

    objective = KINDS[mode]()
    given = dict(teacher=denoise) if mode == 'scd' else {}
    draw = objective.draw(x0, 0, 10)
    assert objective(denoise, x0, draw, labels, guidance=scale, **given).shape == (3,)
    assert len(seen) == 2 + len(given)
    assert all(pair[0] is labels and pair[1] is scale for pair in seen)
    with pytest.raises(InputError, match='teacher'):
        objective(denoise, x0, draw, labels, **({} if given else dict(teacher=denoise)))


def test_an_unknown_norm():
    with pytest.raises(InputError, match='rms'):
        ContinuousConsistencyTraining(tangent_norm='mrs')


@pytest.mark.parametrize('mode', KINDS)
def test_a_network_that_is_told_250_ln_sigma_learns_nothing(mode):
    denoiser = KarrasDenoiser(Affine(), 'edm', c_noise='adm')
    with pytest.raises(InputError, match=r"model\.denoiser\.c_noise to 'trigflow' or 'edm'"):
        StagedObjective([(1.0, KINDS[mode]())]).within(denoiser)


@pytest.mark.parametrize('channels_last', [True, False])
@pytest.mark.parametrize('scale_shift', [True, False])
def test_both_passes_drop_the_same(channels_last, scale_shift, build_model):
    network = dict(dropout=0.5, use_scale_shift_norm=scale_shift)
    model = build_model(network, channels_last=channels_last).train()
    online = partial(model._denoise_with_masks, model.denoiser, 7)
    x, sigma, labels = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 5.0]), torch.tensor([1, 2])
    denoise = lambda x, sigma: online(x, sigma, labels)  # noqa: E731
    found, _ = jvp(denoise, (x, sigma), (x, sigma))
    torch.testing.assert_close(found, online(x, sigma, labels))


def test_derivatives_are_in_float32(tiny_config):
    config = tiny_config(objective=dict(type='ContinuousConsistencyTraining'))
    config['denoiser']['c_noise'] = 'trigflow'
    model = MODELS.build(config).train()
    model.progress = TrainingProgress(seed=0, iteration=5, step=5, total_steps=10)
    seen = []
    model.denoiser.network.out[2].register_forward_hook(
        lambda module, inputs, output: seen.append((output.dtype, in_jvp()))
    )
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(torch.rand(4, 1, 8, 8), torch.arange(4))
    assert seen == [(torch.float32, True), (torch.bfloat16, False)]
    assert losses['loss'].isfinite()
    assert losses['nonfinite_tangents'] == 0


class Affine(nn.Module):
    """F(y, c) = a(c) y + b(c), in which the exact map of a Gaussian can be written."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
        nn.init.zeros_(self.layers[2].weight)

    def forward(self, x, c_noise):
        gain, shift = self.layers(c_noise[:, None]).unbind(1)
        return over(gain) * x + over(shift)


@pytest.mark.slow
def test_training_nears_the_exact_map(gaussian):
    """Diffusion training alone would leave D(., sigma_max) at the mean: wrong by 0.2."""
    data = type(gaussian)(0.4, 0.04)
    denoiser = KarrasDenoiser(Affine(), 'edm', c_noise='trigflow')
    objective = ContinuousConsistencyTraining(warmup_steps=100).within(denoiser)
    optimizer = torch.optim.Adam([*denoiser.parameters(), *objective.parameters()])
    for step in range(400):
        for group in optimizer.param_groups:
            group['lr'] = 0.01 * (1 - step / 400)
        x0 = 0.4 + 0.2 * torch.randn(64, 1, 2, 2)
        optimizer.zero_grad()
        objective(denoiser, x0, objective.draw(x0, step, 400)).mean().backward()
        optimizer.step()
    sigma = torch.full((256,), 80.0)
    x = 80 * torch.randn(256, 1, 2, 2)
    error = denoiser(x, sigma) - data.flow(x, sigma, 0.0)
    assert error.square().mean().sqrt() < 0.1
