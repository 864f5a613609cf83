"""Samplers by indices into a grid."""

import pytest

from mmagic_cm.diffusion.samplers import MultistepSampler
from mmagic_cm.evaluation.level_grid import LevelGrid, num_evaluations, own_sampler
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.registry import DIFFUSION_SAMPLERS

DENOISER = KarrasDenoiser(network=lambda *args: None)


@pytest.mark.parametrize(
    ('own', 'num_scales'),
    [
        (dict(type='OnestepSampler'), 40),
        (dict(type='MultistepSampler', sigmas=(80, 1.3)), 40),
        (dict(type='MultistepSampler', ts=(0, 62, 150), num_scales=151), 151),
    ],
)
def test_the_grid_counts_what_the_own_sampler_does(own, num_scales):
    assert LevelGrid.of(own).num_scales == num_scales
    assert LevelGrid.of(own, 18).num_scales == 18


@pytest.mark.parametrize(
    'own',
    [
        dict(type='OnestepSampler'),
        dict(type='MultistepSampler', ts=(0, 22, 39), rho=5.0, clip_denoised=False),
    ],
)
def test_candidates_have_the_levels_of_the_grid_and_the_settings_of_the_own(own):
    grid = LevelGrid.of(own)
    sampler = DIFFUSION_SAMPLERS.build(grid.sampler((0, 10, 20, 39)))
    assert isinstance(sampler, MultistepSampler)
    assert list(sampler.sigmas) == [grid.levels(DENOISER)[t] for t in (0, 10, 20)]
    assert sampler.clip_denoised == own.get('clip_denoised', True)


def test_a_denoiser_of_other_levels_has_another_grid():
    narrow = KarrasDenoiser(network=lambda *args: None, sigma_min=0.01, sigma_max=50.0)
    grid = LevelGrid.of(dict(type='OnestepSampler'))
    levels = grid.levels(narrow)
    assert (levels[0], levels[-1]) == pytest.approx((50.0, 0.01))
    sampler = DIFFUSION_SAMPLERS.build(grid.sampler((0, 22, 39))).within(narrow)
    assert sampler.sigmas == (levels[0], levels[22])


def test_the_own_sampler_of_a_model():
    assert own_sampler({}) == own_sampler(dict(sampler='OnestepSampler'))
    assert num_evaluations(own_sampler({})) == 1
    assert num_evaluations(dict(type='HeunSampler', num_steps=18)) == 35
