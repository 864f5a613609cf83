"""Samplers by indices into a grid, and how a config says them."""

import pytest

from mmagic_cm.diffusion.samplers import MultistepSampler
from mmagic_cm.evaluation.level_grid import LevelGrid, config_line, num_evaluations, own_sampler
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.registry import DIFFUSION_SAMPLERS

DENOISER = KarrasDenoiser(network=lambda *args: None)


@pytest.mark.parametrize(
    ('own', 'num_scales', 'ts'),
    [
        (dict(type='OnestepSampler'), 40, None),
        (dict(type='MultistepSampler', sigmas=(80, 1.3)), 40, None),
        (dict(type='MultistepSampler', ts=(0, 62, 150), num_scales=151), 151, (0, 62, 150)),
        (dict(type='MultistepSampler', ts=[0, 22, 39]), 40, (0, 22, 39)),
        (dict(type='MultistepSampler', ts=(0, 22, 39), rho=5.0), 40, (0, 22, 39)),
    ],
)
def test_the_grid_and_the_place_of_the_own_sampler_in_it(own, num_scales, ts):
    grid = LevelGrid.of(own, DENOISER)
    assert grid.num_scales == num_scales
    assert grid.ts_of(own) == ts
    # Another grid has another place for it, or none.
    assert LevelGrid.of(own, DENOISER, 18).ts_of(own) is None


@pytest.mark.parametrize(
    'own',
    [
        dict(type='OnestepSampler'),
        dict(type='MultistepSampler', ts=(0, 22, 39), rho=5.0, clip_denoised=False),
    ],
)
def test_candidates_have_the_levels_of_the_grid_and_the_settings_of_the_own(own):
    grid = LevelGrid.of(own, DENOISER)
    sampler = DIFFUSION_SAMPLERS.build(grid.sampler((0, 10, 20, 39)))
    assert isinstance(sampler, MultistepSampler)
    assert list(sampler.sigmas) == [grid.levels[t] for t in (0, 10, 20)]
    assert sampler.clip_denoised == own.get('clip_denoised', True)


def test_a_denoiser_of_other_levels_has_another_grid():
    narrow = KarrasDenoiser(network=lambda *args: None, sigma_min=0.01, sigma_max=50.0)
    grid = LevelGrid.of(dict(type='OnestepSampler'), narrow)
    assert (grid.levels[0], grid.levels[-1]) == pytest.approx((50.0, 0.01))
    assert 'sigma_max=50.0' in config_line(grid.sampler((0, 22, 39)))


def test_the_line_for_the_config():
    line = config_line(LevelGrid(40, {}).sampler((0, 22, 39)), dict(type='OnestepSampler'))
    assert line == "sampler=dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40)"
    # What a base sets and the new sampler does not have would stay.
    own = dict(type='MultistepSampler', sigmas=(80, 1.3))
    line = config_line(LevelGrid(40, {}).sampler((0, 22, 39)), own)
    assert line.endswith(', num_scales=40, _delete_=True)')


def test_the_own_sampler_of_a_model():
    assert own_sampler({}) == own_sampler(dict(sampler='OnestepSampler'))
    assert num_evaluations(own_sampler({})) == 1
    assert num_evaluations(dict(type='HeunSampler', num_steps=18)) == 35
