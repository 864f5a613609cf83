"""DDPM++ and NCSN++: the reference's outputs, its layouts, and the care that ADMUNet has, too."""

import json

import pytest
import torch
import torch.nn.functional as F

from mmagic_cm.errors import InputError
from mmagic_cm.models import KarrasDenoiser
from mmagic_cm.networks import SongUNet
from mmagic_cm.networks.song_unet import ResamplingConv2d

GOLDENS = ['ddpmpp_uncond', 'ddpmpp_cond', 'ncsnpp_uncond']
NCSNPP = dict(
    embedding='fourier', encoder='residual', resample_filter=(1, 3, 3, 1), channel_mult_noise=2
)


def arguments_of(theirs: dict) -> dict:
    """Ours, from NVlabs' names."""
    return dict(
        image_size=theirs['img_resolution'],
        model_channels=theirs['model_channels'],
        num_res_blocks=theirs['num_blocks'],
        attention_resolutions=theirs['attn_resolutions'],
        channel_mult=theirs['channel_mult'],
        dropout=theirs['dropout'],
        num_classes=theirs['label_dim'] or None,
        augment_dim=theirs['augment_dim'],
        channel_mult_noise=theirs['channel_mult_noise'],
        embedding=theirs['embedding_type'],
        encoder=theirs['encoder_type'],
        resample_filter=theirs['resample_filter'],
    )


def tiny(**settings) -> SongUNet:
    settings = dict(channel_mult=(1, 2), attention_resolutions=(4,), num_res_blocks=1) | settings
    return SongUNet(8, 16, in_channels=1, out_channels=1, **settings).eval()


def close(found, expected, name):
    tolerance = 5e-5 if name.startswith('ncsnpp') else 2e-5  # of Fourier features
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', GOLDENS)
@torch.no_grad()
def test_rows_of_the_reference(name, goldens, fill):
    recorded = goldens(f'songunet_{name}')
    network = SongUNet(**arguments_of(json.loads(str(recorded['config'])))).eval()
    assert [*recorded['state_keys']] == [*network.state_dict()]
    fill(network, int(recorded['seed']))
    x, c_noise, labels = recorded['x'], recorded['c_noise'], recorded.get('labels')
    close(network(x, c_noise, labels), recorded['output'], name)
    augmented = network(x, c_noise, labels, augment_labels=recorded['augment_labels'])
    close(augmented, recorded['output_augmented'], name)
    if labels is not None:
        nothing = torch.full_like(labels, -1)
        close(network(x, c_noise, nothing), recorded['output_no_label'], name)
    denoiser = KarrasDenoiser(network, 'edm')
    found = denoiser(recorded['x_t'], recorded['sigmas'], recorded.get('labels_t'))
    close(found, recorded['denoised_edm'], name)


@pytest.mark.parametrize(
    'name',
    [
        f'cifar10_{kind}_{classes}'
        for kind in ('ddpmpp', 'ncsnpp')
        for classes in ('uncond', 'cond')
    ],
)
def test_released_layouts(name, data):
    layout = json.loads((data / 'goldens/songunet_layouts.json').read_text())[name]
    with torch.device('meta'):
        network = SongUNet(**arguments_of(layout['arguments']))
    shapes = lambda named: {key: [*tensor.shape] for key, tensor in named}  # noqa: E731
    assert shapes(network.named_parameters()) == layout['parameters']
    assert shapes(network.named_buffers()) == layout['buffers']
    assert sum(p.numel() for p in network.parameters()) == layout['num_parameters']


@pytest.mark.parametrize('taps', [(1, 1), (1, 3, 3, 1)])
def test_resampling_by_its_formula(taps):
    """Each axis by itself: up, zeros between the pixels, down, every second one of the filtered."""
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    line = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    kernel = line.outer(line).expand(3, 1, -1, -1)
    for resample in ('up', 'down'):
        conv = ResamplingConv2d(3, 3, 1, resample, taps).double()
        conv.weight.data = torch.eye(3, dtype=torch.float64)[:, :, None, None]
        conv.bias.data.zero_()
        margin = len(taps) // 2
        if resample == 'up':
            spread = x.new_zeros(2, 3, 12, 12)
            spread[:, :, ::2, ::2] = x
            padded = F.pad(spread, (margin, margin - 1, margin, margin - 1))
            expected = 4 * F.conv2d(padded, kernel, groups=3)
        else:
            padded = F.pad(x, (margin - 1, margin - 1, margin - 1, margin - 1))
            expected = F.conv2d(padded, kernel, groups=3)[:, :, ::2, ::2]
        torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('settings', [dict(num_classes=3), NCSNPP])
def test_fresh_networks_start_near_zero(settings):
    network = tiny(**settings)
    labels = torch.tensor([0, 2]) if 'num_classes' in settings else None
    assert network(torch.randn(2, 1, 8, 8), torch.zeros(2), labels).abs().max() < 1e-3


@pytest.mark.parametrize('settings', [dict(num_classes=3), NCSNPP])
def test_every_parameter_learns_as_find_unused_parameters_false_demands(settings):
    network = tiny(**settings)
    labels = torch.tensor([0, 2]) if 'num_classes' in settings else None
    network(torch.randn(2, 1, 8, 8), torch.zeros(2), labels).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('settings', [{}, NCSNPP])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_orders_of_memory_checkpoints_and_forward_derivatives(settings, layout, fill):
    network = fill(tiny(**settings))
    x, direction, c_noise = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.zeros(2)
    expected = network(x, c_noise)
    gradient = torch.autograd.grad(expected.square().sum(), network.map_layer0.weight)[0]
    network.to(memory_format=layout)
    network.use_checkpoint = True
    found = network(x, c_noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    again = torch.autograd.grad(found.square().sum(), network.map_layer0.weight)[0]
    torch.testing.assert_close(again, gradient, rtol=1e-3, atol=1e-3)
    network.use_checkpoint = False
    _, tangent = torch.func.jvp(lambda x: network(x, c_noise), (x,), (direction,))
    above, below = (network(x + step * direction, c_noise) for step in (1e-2, -1e-2))
    torch.testing.assert_close(tangent, (above - below) / 2e-2, rtol=1e-2, atol=1e-2)


def test_in_half_precision_the_embedding_stays(fill):
    network = fill(tiny(num_classes=3))
    x, c_noise, labels = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, -1])
    expected = network(x, c_noise, labels)
    network.cast(torch.bfloat16)
    assert network.dtype is torch.bfloat16
    assert network.map_layer1.weight.dtype is torch.float32
    torch.testing.assert_close(network(x, c_noise, labels).float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(embedding='fourrier'), 'fourier'),
        (dict(encoder='skip'), 'encoder'),
        (dict(channel_mult=(1, 2, 2, 2, 2)), 'halved'),
    ],
)
def test_refusals(settings, named):
    with pytest.raises(InputError, match=named):
        tiny(**settings)
    with pytest.raises(InputError, match='3 classes'):
        tiny(num_classes=3)(torch.zeros(1, 1, 8, 8), torch.zeros(1))
