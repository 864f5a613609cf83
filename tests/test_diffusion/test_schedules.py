"""Noise levels and curricula: the paper's tables, end points, and formulas."""

import json
import math

import pytest
import torch

from mmagic_cm.diffusion.schedules import (
    DoublingCurriculum,
    FixedCurriculum,
    GrowingCurriculum,
    HalvingCurriculum,
    karras_sigmas,
)
from mmagic_cm.errors import InputError


@pytest.mark.parametrize(
    ('num_scales', 'index', 'level'),
    [
        (40, 1, 69.4509),
        (40, 17, 4.36556),
        (40, 18, 3.51970),
        (40, 22, 1.38237),
        (40, 38, 0.0036766),
        # The levels of the published two-step samplers (the paper prints four digits).
        (201, 106, 1.913),
        (151, 67, 3.991),
        (151, 62, 5.249),
    ],
)
def test_karras_table(num_scales, index, level):
    assert karras_sigmas(num_scales)[index].item() == pytest.approx(level, rel=3e-4)


@pytest.mark.parametrize('n', [2, 3, 11, 18, 40, 151, 1281])
@pytest.mark.parametrize(
    ('low', 'high', 'rho'), [(0.002, 80.0, 7.0), (0.01, 50.0, 3.0), (0.0, 80.0, 7.0)]
)
def test_karras_is_its_formula_with_exact_ends(n, low, high, rho):
    sigmas = karras_sigmas(n, low, high, rho)
    assert sigmas.shape == (n,)
    assert sigmas.dtype == torch.float32
    assert (sigmas.diff() < 0).all()
    # The boundary condition D(x, sigma_min) = x holds at this very float only.
    assert sigmas[0] == torch.tensor(high)
    assert sigmas[-1] == torch.tensor(low)
    i = n // 2
    root = high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))
    assert sigmas[i].item() == pytest.approx(root**rho, rel=1e-6)


def test_one_level_is_the_highest():
    assert karras_sigmas(1).tolist() == [80.0]


def test_karras_equals_the_reference_grid(goldens):
    recorded = goldens('samplers')['sigmas']
    assert recorded[-1] == 0  # the reference appends it, ours leaves it to the samplers
    torch.testing.assert_close(karras_sigmas(12), recorded[:-1], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    'arguments',
    [
        (0,),
        (2_000_000,),
        (5, -0.1),
        (5, 1.0, 1.0),
        (5, 0.002, math.inf),
        (5, 0.002, 80.0, 0.0),
        (5, 0.002, 80.0, math.nan),
    ],
)
def test_karras_refuses(arguments):
    with pytest.raises(InputError):
        karras_sigmas(*arguments)


def make_curriculum(args: dict):
    """The curriculum of ours that a row of arguments of the reference names."""
    match args['target_ema_mode'], args['scale_mode']:
        case 'fixed', 'fixed':
            return FixedCurriculum(args['start_ema'], args['start_scales'])
        case mode, 'progressive':
            sizes = args['start_scales'], args['end_scales']
            return GrowingCurriculum(*sizes, args['start_ema'], adaptive_ema=mode == 'adaptive')
        case 'fixed', 'progdist':
            return HalvingCurriculum(args['start_scales'], args['distill_steps_per_iter'])


@pytest.mark.parametrize(
    'name', ['cd_fixed', 'ct_imagenet64', 'ct_lsun256', 'ct_fixed_ema', 'progdist']
)
def test_curriculum_rows_of_the_reference(data, name):
    recorded = json.loads((data / 'goldens/curriculum.json').read_text())[name]
    curriculum = make_curriculum(recorded['args'])
    for step, target_ema, num_scales in recorded['rows_step_targetema_scales']:
        found = curriculum(step, recorded['args']['total_steps'])
        assert found == (pytest.approx(target_ema, rel=1e-9), num_scales), step


def test_growing_curriculum_stays_at_the_end():
    curriculum = GrowingCurriculum(2, 150, 0.9)
    assert curriculum(2000, 1000) == curriculum(1000, 1000)


@pytest.mark.parametrize(
    ('start', 'end', 'total', 'length'),
    [
        (10, 1280, 400_000, 50_000),  # K' = floor(K / (log2(1280 / 10) + 1))
        (10, 1280, 1003, 125),
        (10, 160, 100, 20),
        (10, 100, 1000, 231),  # floor(1000 / (log2(10) + 1))
    ],
)
def test_doubling_curriculum(start, end, total, length):
    curriculum = DoublingCurriculum(start, end)
    for step in [0, length - 1, length, 2 * length - 1, 2 * length, total - 1, total]:
        expected = min(start * 2 ** (step // length), end) + 1
        assert curriculum(step, total) == (0.0, expected), step
    assert curriculum(total, total)[1] == end + 1


def test_doubling_curriculum_of_a_run_shorter_than_its_stages():
    assert [DoublingCurriculum(10, 1280)(step, 3)[1] for step in range(3)] == [11, 21, 41]


@pytest.mark.parametrize(
    ('start', 'scales'),
    # Five steps a stage; the last two stages (2 and 1) take ten.
    [(8, [8, 4, 2, 2, 1, 1, 1]), (2, [2, 2, 1, 1, 1]), (1, [1, 1, 1])],
)
def test_halving_curriculum(start, scales):
    curriculum = HalvingCurriculum(start, 5)
    assert [curriculum(5 * i, 100) for i in range(len(scales))] == [(1.0, n) for n in scales]
    assert [curriculum(5 * i + 4, 100)[1] for i in range(len(scales))] == scales


@pytest.mark.parametrize('start', [0, 3, 12, -4])
def test_halving_curriculum_wants_a_power_of_two(start):
    with pytest.raises(InputError, match=str(start)):
        HalvingCurriculum(start, 10)
