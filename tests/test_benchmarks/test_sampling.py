import pytest

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.sampling import benchmark_sampling
from mmagic_cm.errors import InputError

DIGITS = 'configs/consistency_models/ect_1xb96-digits-8x8.py'


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_figures_of_sampling(precision):
    config = load_config(DIGITS)
    config.model.sampler = dict(type='MultistepSampler', sigmas=(80.0, 1.0))
    figures = benchmark_sampling(
        config,
        device='cpu',
        batch_size=3,
        precision=precision,
        compare=['reference', 'diffusers'],
        repeats=2,
    )
    others = {
        'reference (fp32)',
        f'diffusers ({precision})',
        f'diffusers ({precision}, channels_last)',
    }
    assert set(figures['seconds']) == {'ours', *others}
    ours = figures['seconds']['ours']
    assert set(figures['speedup']) == others
    if precision == 'fp32':
        assert max(figures['difference'].values()) < 1e-4
    if precision == 'bf16':
        assert 1e-4 < figures['difference']['reference (fp32)'] < 0.05
    assert figures['images_per_s']['ours'] == pytest.approx(3 / ours)
    assert figures['evaluations'] == 2
    assert figures['gflop_per_image'] == pytest.approx(2 * 0.0304, rel=0.02)
    assert figures['tflop_per_s'] == pytest.approx(3 * figures['gflop_per_image'] / 1e3 / ours)
    assert 0 < figures['share_of_best_rate'] < 3


def test_what_it_cannot_compare_with():
    with pytest.raises(InputError, match='reference or diffusers, not'):
        benchmark_sampling(DIGITS, device='cpu', compare=['torchvision'])
