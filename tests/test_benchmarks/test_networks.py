"""What we are compared with computes the same."""

import pytest
import torch

from mmagic_cm.benchmarks.networks import DiffusersUNet, PlainUNet
from mmagic_cm.benchmarks.sampling import fill
from mmagic_cm.networks import ADMUNet

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


def build(kind):
    network = ADMUNet(**SMALL, **KINDS[kind]).eval()
    fill(network)
    labels = torch.tensor([4, 1]) if network.num_classes else None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    return network, (x, torch.tensor([3.0, 900.0]), labels)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('other', [PlainUNet, DiffusersUNet])
def test_outputs_are_ours(kind, other):
    network, inputs = build(kind)
    ours = network(*inputs)
    assert ours.std() > 0.1
    theirs = other(network).eval()(*inputs)
    assert (theirs - ours).abs().max() < 1e-5 * ours.abs().max()


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_of_the_plain_arithmetic_are_ours(kind):
    network, inputs = build(kind)
    network(*inputs).square().sum().backward()
    ours = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    PlainUNet(network)(*inputs).square().sum().backward()
    largest = max(gradient.abs().max() for gradient in ours)
    for parameter, expected in zip(network.parameters(), ours, strict=True):
        assert (parameter.grad - expected).abs().max() < 1e-5 * largest


@pytest.mark.parametrize('kind', KINDS)
def test_the_plain_arithmetic_is_plain(kind):
    network, inputs = build(kind)
    plain = PlainUNet(network.to(memory_format=torch.channels_last))
    assert all(parameter.is_contiguous() for parameter in plain.parameters())
    with torch.profiler.profile(record_shapes=True) as profile:
        plain(*inputs)
    events = profile.key_averages(group_by_input_shape=True)
    names = {event.key for event in events}
    assert 'aten::softmax' in names
    assert not any('scaled_dot_product' in name or 'transpose2d' in name for name in names)
    norms = [event.input_shapes[0] for event in events if event.key == 'aten::group_norm']
    assert {shape[0] for shape in norms} == {len(inputs[0])}
