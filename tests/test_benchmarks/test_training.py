import pytest
import torch

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.training import TrainingStep, benchmark_training
from mmagic_cm.errors import InputError

CONFIGS = 'configs/consistency_models'
CPU = torch.device('cpu')


@pytest.mark.parametrize(
    ('name', 'parts'),
    [('ect', {'target'}), ('cd-l2', {'target', 'teacher'}), ('pd', {'teacher'}), ('edm', set())],
)
def test_figures_of_training(name, parts):
    figures = benchmark_training(
        f'{CONFIGS}/{name}_1xb96-digits-8x8.py', 'cpu', batch_size=4, repeats=2, at=0.9
    )
    common = {'data', 'online', 'distance', 'backward', 'optimizer', 'EMA', 'rest'}
    assert set(figures['parts']) == common | parts
    assert sum(figures['parts'].values()) == pytest.approx(figures['seconds'], rel=0.5)
    assert figures['images_per_s'] == pytest.approx(4 / figures['seconds'])
    assert figures['data'].startswith('1,400 images')
    assert 0.1 < figures['peak_memory_gib'] < 100


@pytest.mark.parametrize('name', ['ect', 'cd-l2', 'ct'])
def test_the_reference_takes_the_same_steps(name):
    config = load_config(f'{CONFIGS}/{name}_1xb96-digits-8x8.py')
    losses, averages = [], []
    for plain in (False, True):
        torch.manual_seed(0)
        step = TrainingStep(config, CPU, 8, 'fp32', None, at=0.6, plain=plain)
        losses.append(torch.stack([step.run() for _ in range(3)]))
        tracked = next(iter(step.tracker.averages.values()))
        averages.append(torch.cat([tensor.flatten() for tensor in tracked.values()]))
    assert torch.allclose(*losses, rtol=1e-3)
    assert losses[0][0] != losses[0][2]
    assert torch.allclose(*averages, atol=1e-4)


def test_bf16_and_the_comparison():
    figures = benchmark_training(
        f'{CONFIGS}/ect_1xb96-digits-8x8.py',
        'cpu',
        batch_size=4,
        precision='bf16',
        compare=['reference'],
        repeats=1,
    )
    assert figures['speedup']['reference (fp32)'] == pytest.approx(
        figures['reference_seconds'] / figures['seconds']
    )
    assert set(figures['reference_parts']) == set(figures['parts'])


def test_data_that_are_not_there_are_noise(tmp_path):
    config = load_config(f'{CONFIGS}/ect_1xb64-folder-64x64.py')
    config.train_dataloader.dataset.data_root = str(tmp_path / 'nowhere')
    config.model.denoiser.network.update(
        model_channels=32, channel_mult=(1, 1), num_res_blocks=1, num_head_channels=16
    )
    figures = benchmark_training(config, 'cpu', batch_size=2, repeats=1)
    assert figures['data'].startswith('noise, made once')
    assert 'nowhere' in figures['data']


def test_what_it_refuses():
    with pytest.raises(InputError, match='for sampling only'):
        benchmark_training(
            f'{CONFIGS}/consistency_models_8xb256-imagenet1k-onestep-64x64.py', 'cpu'
        )
    with pytest.raises(InputError, match='with reference, not with'):
        benchmark_training(f'{CONFIGS}/ect_1xb96-digits-8x8.py', 'cpu', compare=['diffusers'])
