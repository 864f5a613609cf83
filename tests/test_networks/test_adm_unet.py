"""The U-Net: the reference's outputs, the released layouts, and what it refuses."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmagic_cm.errors import InputError
from mmagic_cm.networks import ADMUNet
from mmagic_cm.networks.adm_unet import (
    AttentionBlock,
    UpsamplingConv2d,
    modulate,
    timestep_embedding,
)

TINY = dict(
    image_size=8,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(4,),
    in_channels=1,
    out_channels=1,
)
GOLDENS = ['unet_tiny_cond', 'unet_tiny_uncond', 'unet_tiny_plain']


def build_recorded(recorded, fill):
    """The network of a file of reference numbers, with the weights of its recipe."""
    config = json.loads(str(recorded['config']))
    factors = config.pop('attention_resolutions')
    pixels = [config['image_size'] // factor for factor in factors]
    return fill(ADMUNet(**config, attention_resolutions=pixels), int(recorded['seed']))


def assert_agree(found, expected, inputs):
    """Values, and the gradients of all inputs."""
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    gradients = (torch.autograd.grad(output, inputs, grad) for output in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().min() > 0
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_scale_and_shift_of_a_norm_by_its_formula(layout):
    norm = nn.GroupNorm(4, 12, eps=0.1).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 12, 5, 4).double().to(memory_format=layout).requires_grad_()
    scale, shift = (torch.randn(3, 12).double().requires_grad_() for _ in range(2))
    groups = x.unflatten(1, (4, 3))
    var, mean = torch.var_mean(groups, dim=(2, 3, 4), correction=0, keepdim=True)
    normal = ((groups - mean) / (var + 0.1).sqrt()).flatten(1, 2)
    normal = normal * norm.weight[:, None, None] + norm.bias[:, None, None]
    expected = normal * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    found = modulate(norm, x, scale, shift)
    assert found.is_contiguous(memory_format=layout)
    assert_agree(found, expected, (x, scale, shift, norm.weight, norm.bias))


@pytest.mark.parametrize('size', [(1, 1), (4, 4), (3, 6)])
def test_upsampling_convolution_by_its_formula(size):
    layer = UpsamplingConv2d(3, 5).double()
    x = torch.randn(2, 3, *size).double().requires_grad_()
    large = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(large, layer.weight, layer.bias, padding=1)
    assert_agree(layer(x), expected, (x, layer.weight, layer.bias))


@pytest.mark.parametrize('name', GOLDENS)
def test_rows_of_the_reference(name, goldens, fill):
    recorded = goldens(name)
    network = build_recorded(recorded, fill)
    assert [*network.state_dict()] == recorded['state_keys'].tolist()
    with torch.no_grad():
        found = network(recorded['x'], recorded['timesteps'], recorded.get('labels'))
    torch.testing.assert_close(found, recorded['output'], rtol=1e-5, atol=1e-5)


def test_attention_by_its_formula():
    heads, dim, n, size = 3, 32, 2, 4
    block = AttentionBlock(heads * dim, heads, -1, norm_groups=32)
    nn.init.normal_(block.proj_out.weight, std=0.1)
    x = torch.randn(n, heads * dim, size, size)
    qkv = block.qkv(block.norm(x)).flatten(2)
    outputs = []
    for head in range(heads):
        # q, k and v are thirds of the channels; within each, heads follow one another.
        q, k, v = (qkv[:, (part * heads + head) * dim :][:, :dim] for part in range(3))
        weights = (q.transpose(1, 2) @ k / dim**0.5).softmax(-1)
        outputs.append(v @ weights.transpose(1, 2))
    expected = x + block.proj_out(torch.cat(outputs, 1).reshape(x.shape))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_defaults_are_those_of_imagenet64(data):
    recorded = json.loads((data / 'goldens/checkpoint_layouts.json').read_text())['imagenet64']
    with torch.device('meta'):
        network = ADMUNet(64, 192, 3, num_classes=1000, num_head_channels=64)
    assert [*network.state_dict()] == [*recorded['state_dict']]


@pytest.mark.parametrize('settings', [{}, dict(use_scale_shift_norm=False, resblock_updown=False)])
def test_starts_as_zero(settings):
    network = ADMUNet(**TINY, **settings)
    assert torch.equal(
        network(torch.randn(2, 1, 8, 8), torch.tensor([1095.5, -1553.0])), torch.zeros(2, 1, 8, 8)
    )


def test_timestep_embedding():
    found = timestep_embedding(torch.tensor([0.0, 2.5, -1553.652]), 6)
    frequencies = torch.tensor([1e4 ** (-i / 3) for i in range(3)])
    angles = torch.tensor([0.0, 2.5, -1553.652])[:, None] * frequencies
    torch.testing.assert_close(found, torch.cat([angles.cos(), angles.sin()], 1))
    assert timestep_embedding(torch.tensor([1.0]), 7).shape == (1, 7)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    'embedding', [{}, dict(use_scale_shift_norm=False), dict(pixel_norm_emb=True)]
)
def test_forward_derivatives(layout, embedding, fill):
    """``torch.func.jvp`` is the derivative along a line, and can be differentiated again."""
    settings = dict(channel_mult=(1, 2), attention_resolutions=(4,), num_heads=2)
    network = fill(ADMUNet(8, 32, 1, **embedding, **settings))
    network.to(memory_format=layout)
    x, direction, c_noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.zeros(2)
    found, tangent = torch.func.jvp(lambda x: network(x, c_noise), (x,), (direction,))
    torch.testing.assert_close(found, network(x, c_noise), rtol=1e-4, atol=1e-5)
    above, below = (network(x + step * direction, c_noise) for step in (1e-2, -1e-2))
    torch.testing.assert_close(tangent, (above - below) / 2e-2, rtol=1e-2, atol=1e-2)
    tangent.square().sum().backward()
    assert network.input_blocks[0][0].weight.grad.abs().sum() > 0


def test_pixel_normed_embeddings_have_no_size(fill):
    """Scale and shift say how, not how much: norm(x) pnorm(1 + scale) + pnorm(shift)."""
    network = fill(ADMUNet(**TINY, pixel_norm_emb=True))
    block, x, emb = network.input_blocks[1][0], torch.randn(2, 32, 8, 8), torch.randn(2, 128)
    seen = []
    block.out_layers[3].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    scale, shift = block.emb_layers[1](emb).chunk(2, 1)
    h = block.in_layers(x)
    root = lambda v: v.square().mean(1, keepdim=True).sqrt()  # noqa: E731
    over = lambda v: v[:, :, None, None]  # noqa: E731
    block(x, emb)
    scale, shift = (1 + scale) / root(1 + scale), shift / root(shift)
    expected = block.out_layers[0](h) * over(scale) + over(shift)
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match='use_scale_shift_norm'):
        ADMUNet(**TINY, pixel_norm_emb=True, use_scale_shift_norm=False)


@pytest.mark.parametrize('num_classes', [None, 10])
def test_recomputing_changes_no_gradient(num_classes, fill):
    gradients = []
    labels = None if num_classes is None else torch.tensor([1, 2])
    x, timesteps = torch.randn(2, 1, 8, 8), torch.tensor([100.0, -3.0])
    for use_checkpoint in (False, True):
        network = fill(ADMUNet(**TINY, num_classes=num_classes, use_checkpoint=use_checkpoint))
        network(x, timesteps, labels).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_the_embedding_stays_in_float32_under_autocast(fill):
    """bfloat16 near 1095 steps by 8: neighbouring noise levels would fall together."""
    network = fill(ADMUNet(**TINY))
    seen = {}
    for name in ('time_embed', 'input_blocks'):
        module = getattr(network, name)
        module = module[0][0] if name == 'input_blocks' else module
        module.register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.dtype}))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        network(torch.randn(1, 1, 8, 8), torch.tensor([1095.5]))
    assert seen == dict(time_embed=torch.float32, input_blocks=torch.bfloat16)


def test_dropout_is_where_the_feature_maps_are_of_these_sizes():
    network = ADMUNet(**TINY, dropout=0.5, dropout_resolutions=(4,))
    found = []
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda m, _, out: found.append((out.shape[-1], m.p)))
    network(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    assert set(found) == {(8, 0), (4, 0.5)}


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        (dict(channel_mult=None), 'channel_mult'),
        (dict(image_size=9), 'image_size 9'),
        (dict(norm_groups=48), 'norm_groups 48'),
        (dict(num_heads=5), '64 channels'),
        (dict(num_head_channels=48), '64 channels'),
        (dict(num_head_channels=128), '64 channels'),
    ],
)
def test_refuses(settings, match):
    with pytest.raises(InputError, match=match):
        ADMUNet(**{**TINY, **settings})


@pytest.mark.parametrize(('num_classes', 'labels'), [(None, torch.tensor([0])), (10, None)])
def test_labels_exactly_where_conditional(num_classes, labels):
    network = ADMUNet(**TINY, num_classes=num_classes)
    with pytest.raises(InputError, match='labels'):
        network(torch.zeros(1, 1, 8, 8), torch.zeros(1), labels)


@pytest.mark.parametrize(
    ('settings', 'grad'),
    [
        (dict(num_classes=3), True),
        pytest.param(dict(num_classes=3), False, marks=pytest.mark.slow),
        pytest.param(dict(use_scale_shift_norm=False), True, marks=pytest.mark.slow),
        pytest.param(dict(use_scale_shift_norm=False), False, marks=pytest.mark.slow),
    ],
)
def test_torch_compile_makes_one_graph_of_it(settings, grad, in_child):
    def check():
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        network = ADMUNet(
            8,
            32,
            1,
            channel_mult=(1, 2),
            attention_resolutions=(4,),
            num_head_channels=16,
            **settings,
        ).eval()
        labels = torch.tensor([1, 2]) if settings.get('num_classes') else None
        inputs = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 500.0]), labels
        with torch.set_grad_enabled(grad):
            expected = network(*inputs)
            network.compile(backend='eager', fullgraph=True)
            for _ in range(3):
                torch.testing.assert_close(network(*inputs), expected)
        assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1

    in_child(check)


@pytest.mark.slow
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_torch_compile_makes_one_graph_of_all_further_batch_sizes(layout, in_child):
    def check():
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        network = ADMUNet(**TINY, resblock_updown=False).eval().to(memory_format=layout)
        network.compile(backend='eager', fullgraph=True)
        graphs = []
        with torch.inference_mode():
            for size in (4, 3, 5, 7):
                x = torch.randn(size, 1, 8, 8).to(memory_format=layout)
                network(x, torch.ones(size))
                graphs.append(torch._dynamo.utils.counters['stats']['unique_graphs'])
        assert graphs == [1, 2, 2, 2]

    in_child(check)


@pytest.mark.parametrize('resblock_updown', [True, False])
def test_in_half_precision_the_embedding_stays(resblock_updown):
    torch.manual_seed(0)
    settings = dict(attention_resolutions=(), num_classes=3, resblock_updown=resblock_updown)
    network = ADMUNet(8, 32, 1, channel_mult=(1, 2), **settings).eval()
    nn.init.normal_(network.out[2].weight, std=0.1)
    inputs = torch.randn(4, 3, 8, 8), torch.full((4,), 1095.5), torch.tensor([0, 1, 2, 0])
    embeddings = []
    handle = network.time_embed.register_forward_hook(lambda *args: embeddings.append(args[-1]))
    exact = network(*inputs)
    rough = network.cast(torch.bfloat16)(*inputs)
    handle.remove()
    assert torch.equal(*embeddings)
    assert rough.dtype is torch.bfloat16
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        autocast = network.float()(*inputs)
    assert 0 < (autocast - exact).abs().max() < 0.05 * exact.abs().max()
