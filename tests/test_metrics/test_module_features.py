"""Features from any network: modules, configs, TorchScript files."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import ModuleFeatures
from mmagic_cm.registry import FEATURE_EXTRACTORS


class Pooled(nn.Module):
    """(N, C, H, W) to (N, D) or, with ``flat=False``, to (N, D, 1, 1)."""

    def __init__(self, channels=3, flat=True):
        super().__init__()
        self.layer = nn.Conv2d(channels, 5, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.flat = flat

    def forward(self, x):
        x = self.dropout(self.layer(x).relu()).mean((2, 3), keepdim=True)
        return x.flatten(1) if self.flat else x


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


def pictures(count=4, channels=3, height=8, width=8):
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


def test_a_module_sees_normalized_pictures():
    module = Pooled()
    images = pictures()
    found = ModuleFeatures(module, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))(images)
    channels = [(images[:, i : i + 1] / 255 - (i + 1) / 10) / (0.5 + i / 10) for i in range(3)]
    expected = module.eval()(torch.cat(channels, 1))
    torch.testing.assert_close(found['features'], expected)
    assert not found['features'].requires_grad


def test_rows_may_come_as_maps_of_one_pixel():
    flat = Pooled()
    maps = Pooled(flat=False)
    maps.load_state_dict(flat.state_dict())
    torch.testing.assert_close(ModuleFeatures(maps)(pictures()), ModuleFeatures(flat)(pictures()))


def test_gray_is_repeated_or_kept():
    gray = pictures(channels=1)
    module = ModuleFeatures(Pooled())
    torch.testing.assert_close(module(gray), module(gray.repeat(1, 3, 1, 1)))
    kept = ModuleFeatures(Pooled(channels=1), mean=(0.5,), std=(0.5,))
    assert kept(gray)['features'].shape == (4, 5)


@pytest.mark.parametrize('size', [5, 30])
def test_resized_like_pillow(size):
    image = pictures(1, height=16, width=12)
    identity = Wrapped(lambda x: x.flatten(1))
    extractor = ModuleFeatures(identity, input_size=size, mean=[0] * 3, std=[1] * 3)
    found = extractor(image)['features'].reshape(3, size, size) * 255
    assert extractor.size == size
    theirs = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((size, size))
    difference = np.abs(found.permute(1, 2, 0).numpy() - np.asarray(theirs, float))
    assert difference.max() < 1.01  # one level: Pillow computes in fixed point
    assert difference.mean() < 0.2


def test_torchscript_file(tmp_path):
    module = Pooled()
    torch.jit.script(module.eval()).save(tmp_path / 'net.pt')
    config = dict(type='ModuleFeatures', module=str(tmp_path / 'net.pt'), input_size=6)
    found = FEATURE_EXTRACTORS.build(config)
    torch.testing.assert_close(found(pictures()), ModuleFeatures(module, input_size=6)(pictures()))
    assert found.identity.startswith('ModuleFeatures: TorchScript Pooled, weights ')


def test_identity_says_all_that_numbers_depend_on(tmp_path):
    module, other = Pooled(), Pooled()
    identity = ModuleFeatures(module).identity
    assert identity == ModuleFeatures(module).identity
    assert '\n' not in identity
    others = [
        ModuleFeatures(other),
        ModuleFeatures(module, input_size=6),
        ModuleFeatures(module, mean=(0.5, 0.5, 0.5)),
        ModuleFeatures(module, std=(0.5, 0.5, 0.5)),
    ]
    assert len({identity, *(x.identity for x in others)}) == 5
    for name, network in (('a', module), ('b', other)):
        torch.jit.script(network.eval()).save(tmp_path / name)
    assert ModuleFeatures(tmp_path / 'a').identity != ModuleFeatures(tmp_path / 'b').identity


def test_constructor_reads_nothing(tmp_path):
    missing = ModuleFeatures(tmp_path / 'net.pt')
    with pytest.raises(InputError, match=r'net\.pt'):
        missing.load()


def test_other_files_are_refused(tmp_path):
    torch.save(Pooled().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(RuntimeError) as caught:
        ModuleFeatures(tmp_path / 'weights.pth').load()
    assert 'weights.pth' in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ('wrap', 'name'),
    [
        (lambda x: dict(features=x), 'dict'),
        (lambda x: x, '4, 3, 8, 8'),
    ],
)
def test_what_is_no_vector_is_refused(wrap, name):
    with pytest.raises(InputError, match=name):
        ModuleFeatures(Wrapped(wrap))(pictures())
