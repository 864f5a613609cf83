"""``tools/benchmark.py``: what is compared computes the same, in turns, and is counted in full."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from mmagic_cm.apis import load_config
from mmagic_cm.networks import ADMUNet

TOOLS = Path(__file__).parents[2] / 'tools'
CONFIGS = 'configs/consistency_models'
DIGITS = f'{CONFIGS}/ect_1xb96-digits-8x8.py'
SMALL = dict(
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_head_channels=16,
)
KINDS = {
    'conditional': dict(num_classes=5),
    'embedding added': dict(use_scale_shift_norm=False),
    'resampled by convolutions': dict(resblock_updown=False),
}


@pytest.fixture
def tool(load_script):
    return load_script('tools/benchmark_calls.py')


@pytest.fixture
def benchmark(run_script, monkeypatch):
    """Run the command in this process."""
    monkeypatch.syspath_prepend(TOOLS)
    return partial(run_script, 'tools/benchmark.py')


@pytest.fixture(params=KINDS)
def network(request, tool):
    network = ADMUNet(**SMALL, **KINDS[request.param]).eval()
    tool.fill(network)
    return network


def inputs(network):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    return x, torch.tensor([3.0, 900.0]), torch.tensor([4, 1]) if network.num_classes else None


@pytest.mark.parametrize('other', ['PlainUNet', 'DiffusersUNet'])
def test_outputs_are_ours(tool, network, other):
    ours = network(*inputs(network))
    assert ours.std() > 0.1
    theirs = getattr(tool, other)(network).eval()(*inputs(network))
    assert (theirs - ours).abs().max() < 1e-5 * ours.abs().max()


def test_gradients_of_the_plain_arithmetic_are_ours(tool, network):
    network(*inputs(network)).square().sum().backward()
    ours = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    tool.PlainUNet(network)(*inputs(network)).square().sum().backward()
    largest = max(gradient.abs().max() for gradient in ours)
    for parameter, expected in zip(network.parameters(), ours, strict=True):
        assert (parameter.grad - expected).abs().max() < 1e-5 * largest


def test_the_plain_arithmetic_is_plain(tool, network):
    plain = tool.PlainUNet(network.to(memory_format=torch.channels_last))
    assert all(parameter.is_contiguous() for parameter in plain.parameters())
    with torch.profiler.profile(record_shapes=True) as profile:
        plain(*inputs(network))
    events = profile.key_averages(group_by_input_shape=True)
    names = {event.key for event in events}
    assert 'aten::softmax' in names
    assert not any('scaled_dot_product' in name or 'transpose2d' in name for name in names)
    norms = [event.input_shapes[0] for event in events if event.key == 'aten::group_norm']
    assert {shape[0] for shape in norms} == {2}


@pytest.mark.parametrize('name', ['ect', 'cd-l2', 'pd', 'edm'])
def test_the_reference_takes_the_same_steps(tool, name):
    config = load_config(f'{CONFIGS}/{name}_1xb96-digits-8x8.py')
    config.model.channels_last = True
    losses, averages = [], []
    for plain in (False, True):
        torch.manual_seed(0)
        step = tool.TrainingStep(config, 'fp32', 8, torch.device('cpu'), at=0.6, plain=plain)
        losses.append(torch.stack([step() for _ in range(3)]))
        averages.append([torch.cat([p.flatten() for p in each]) for each in step.averages])
    assert torch.allclose(*losses, rtol=1e-3)
    assert losses[0][0] != losses[0][2]
    for ours, theirs in zip(*averages, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_attention_is_counted(tool):
    query = torch.zeros(2, 4, 64, 16, requires_grad=True)

    def call():
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()

    # Two products of 64 x 64 tokens by 16 numbers, and two gradients of each.
    assert tool.count_flops(call) == 3 * 2 * 2 * (2 * 4) * 64 * 64 * 16


def test_a_speedup_is_that_of_the_rounds(tool):
    """The machine slows down to a third in the second round, and stays slow."""
    seconds = dict(ours=[1.0, 3.0, 3.0, 30.0], other=[1.5, 4.5, 4.8, 33.0], same=[1, 3, 3, 30])
    assert tool.speedups(seconds) == dict(other=1.5, same=1.0)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('what', ['sample', 'train'])
def test_a_table_and_a_json(benchmark, tmp_path, what, precision):
    out = tmp_path / 'figures.json'
    others = ['reference', 'diffusers'][: 2 if what == 'sample' else 1]
    code, printed, said = benchmark(
        *(DIGITS, '--device', 'cpu', '--what', what, '--batch-size', 3, '--repeats', 1),
        *('--precision', precision, '--out', out, '--profile', '--compare', *others),
        *('--cfg-options', 'model.sampler.type=HeunSampler', 'model.sampler.num_steps=2'),
    )
    assert code == 0, said
    figures = json.loads(out.read_text())
    assert figures['config'] == DIGITS
    names = {'reference (fp32)'}
    if what == 'sample':
        names |= {f'diffusers ({precision})', f'diffusers ({precision}, channels_last)'}
        assert figures['tflop'] == pytest.approx(3 * 3 * 0.0281e-3, rel=0.01)
        off = figures['difference']['reference (fp32)']
        assert off < 1e-4 if precision == 'fp32' else 1e-4 < off < 0.05
    else:  # the gradients of input and weights, and the target
        assert figures['tflop'] == pytest.approx(3 * 4 * 0.0281e-3, rel=0.02)
    assert set(figures['speedup']) == names
    assert set(figures['seconds']) == {'ours', *names}
    ours = figures['seconds']['ours']
    assert figures['images_per_s']['ours'] == pytest.approx(3 / ours)
    assert figures['tflop_per_s'] == pytest.approx(figures['tflop'] / ours)
    assert f'{figures["speedup"]["reference (fp32)"]:.2f} times as fast' in printed
    assert 'convolution' in printed
