"""Names in configs: ours first, MMEngine's next, and a hint for the mistyped."""

import pytest
import torch
from mmengine import DefaultScope
from mmengine.model import BaseDataPreprocessor

from mmagic_cm import registry
from mmagic_cm.diffusion.distances import PseudoHuber, l2
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DIFFUSION_SAMPLERS, DISTANCES, MODELS, OPTIMIZERS, resolve


@pytest.mark.parametrize(
    ('name', 'known'),
    [
        ('MODELS', 'ConsistencyModel'),
        ('MODELS', 'ADMUNet'),
        ('DATASETS', 'DigitsDataset'),
        ('TRANSFORMS', 'PackImage'),
        ('HOOKS', 'CurriculumHook'),
        ('DIFFUSION_SAMPLERS', 'MultistepSampler'),
        ('CURRICULA', 'GrowingCurriculum'),
        ('WEIGHTINGS', 'truncated-snr'),
        ('DISTANCES', 'pseudo-huber'),
        ('PARAMETERIZATIONS', 'edm'),
    ],
)
def test_names_are_found_and_mistyped_ones_answered(name, known):
    kind = getattr(registry, name)
    assert kind.get(known) is not None
    typo = known[:-1] + '_'
    with pytest.raises(InputError, match=f"'{typo}'.* '{known}'"):
        kind.get(typo)


def test_mmengines_own_names_are_found_too():
    assert OPTIMIZERS.get('Adam') is torch.optim.Adam
    assert MODELS.get('BaseDataPreprocessor') is BaseDataPreprocessor
    with pytest.raises(InputError, match="'Adamm'"):
        OPTIMIZERS.get('Adamm')


def test_bare_names_are_ours_whatever_scope_is_left_behind():
    """MMagic's inferencer leaves its scope to the process, and has a DataPreprocessor too."""
    from mmagic_cm.models import DataPreprocessor

    with DefaultScope.overwrite_default_scope('mmengine'):
        assert type(MODELS.build(dict(type='DataPreprocessor'))) is DataPreprocessor
        nested = MODELS.build(
            dict(
                type='ConsistencyTraining',
                curriculum=dict(type='FixedCurriculum', target_ema=0.5, num_scales=3),
            )
        )
    assert nested.target_ema(0, 1) == 0.5


def test_build_leaves_the_config_as_it_was():
    config = dict(type='HeunSampler', num_steps=3)
    DIFFUSION_SAMPLERS.build(config)
    assert config == dict(type='HeunSampler', num_steps=3)


@pytest.mark.parametrize(
    ('kind', 'config', 'match'),
    [
        (DIFFUSION_SAMPLERS, dict(type='HeunSampler', steps=3), "'steps'"),
        (MODELS, dict(type='ADMUNet', image_size=8), "'model_channels'"),
        (MODELS, dict(type='ConsistencyModel', denoser=1), "'denoiser'"),
        # Behind the **settings that a class hands to its parents, too.
        (MODELS, dict(type='EasyConsistencyTuning', p_maen=1.0), "'p_mean'"),
    ],
)
def test_arguments_that_do_not_fit(kind, config, match):
    with pytest.raises(InputError, match=match):
        kind.build(config)


def test_resolve():
    assert resolve(DISTANCES, 'l2') is l2  # a function
    assert isinstance(resolve(DISTANCES, 'pseudo-huber'), PseudoHuber)  # a class: its defaults
    assert resolve(DISTANCES, dict(type='pseudo-huber', c=0.5)).c == 0.5
    own = object()
    assert resolve(DISTANCES, own) is own
    assert resolve(DISTANCES, None) is None


def test_argument_of_a_parent_is_accepted():
    assert MODELS.build(dict(type='EasyConsistencyTuning', sigma_data=0.3)).sigma_data == 0.3
