import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.rates import Attention, Convolution, best_rate, operations, total_flops
from mmagic_cm.networks import ADMUNet
from mmagic_cm.registry import MODELS


def small():
    return ADMUNet(16, 32, 1, channel_mult=(1, 2), attention_resolutions=(8,), num_classes=3)


def test_operations_are_those_that_torch_counts():
    network = small()
    x, labels = torch.zeros(2, 3, 16, 16), torch.zeros(2, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, torch.ones(2), labels)
    counted = counter.get_flop_counts()['Global']
    convolutions = sum(n for name, n in counted.items() if 'convolution' in str(name))
    found = operations(network, 2)
    attention = sum(o.flops * count for o, count in found.items() if isinstance(o, Attention))
    # Two products of 64 x 64 tokens by 16 numbers, in 4 heads, 2 images and 4 blocks.
    assert attention == 2 * 2 * 64 * 64 * 16 * 4 * 2 * 4
    assert total_flops(found) == convolutions + attention


def test_the_network_for_imagenet_takes_219_gflop_an_image(in_child):
    def check():
        with FakeTensorMode():
            network = MODELS.build(
                load_config('configs/_base_/models/imagenet_64.py').model.denoiser.network
            )
            assert total_flops(operations(network, 1)) == pytest.approx(219e9, rel=0.01)

    in_child(check)


def test_strides_and_kernels_count():
    wide = Convolution(n=2, channels=4, height=8, width=8, out_channels=6, kernel=3, stride=1)
    assert wide.flops == 2 * 2 * 64 * 4 * 6 * 9
    assert Convolution(2, 4, 8, 8, 6, 3, stride=2).flops == wide.flops // 4
    call, inputs = Convolution(2, 4, 8, 8, 6, 3, 2).call('cpu', torch.float32, torch.channels_last)
    assert call().shape == (2, 6, 4, 4)
    assert all(tensor.requires_grad for tensor in inputs)


def test_an_upsampling_convolution_counts_as_its_formula():
    network = ADMUNet(
        16, 32, 1, channel_mult=(1, 2), attention_resolutions=(), resblock_updown=False
    )
    assert Convolution(2, 64, 16, 16, 64, 3, 1) in operations(network, 2)


@pytest.mark.parametrize('backward', [False, True])
def test_best_rate_takes_every_operation_as_often_as_it_is_there(monkeypatch, backward):
    monkeypatch.setattr(
        'mmagic_cm.benchmarks.rates._seconds',
        lambda operation, device, dtype, layout, backward: 2.0 if 'last' in str(layout) else 3.0,
    )
    found = operations(small(), 1)
    rate = best_rate(found, torch.device('cpu'), torch.float32, backward, progress=False)
    work = total_flops(found) * (3 if backward else 1)
    assert rate.seconds == 2.0 * sum(found.values())
    assert rate.mean == pytest.approx(work / rate.seconds / 1e12)
    assert rate.best > rate.mean
