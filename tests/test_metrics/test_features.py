"""Features of sets of images, whatever the extractor."""

import math

import numpy as np
import pytest
import torch

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import FeatureExtractor, Features, PixelFeatures, extract
from mmagic_cm.metrics.features import weights_digest
from mmagic_cm.registry import FEATURE_EXTRACTORS


def pictures(count=10, channels=3, height=4, width=6):
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


class Spoilt(FeatureExtractor):
    """Gives a number that is none for pictures whose first value is 0."""

    identity = 'Spoilt'

    def _compute(self, images):
        first = images.flatten(1)[:, :1].float()
        return {'features': torch.where(first == 0, math.nan, first)}


class Multiplied(FeatureExtractor):
    identity = 'Multiplied'

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def _compute(self, images):
        return {'features': images.flatten(1).float() @ self.matrix}


def test_pixels_in_channel_order():
    images = pictures()
    found = PixelFeatures()(images)['features']
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, images.numpy().reshape(10, -1) / 127.5 - 1, atol=1e-6)
    assert PixelFeatures()(pictures(channels=1))['features'].shape == (10, 24)
    assert isinstance(FEATURE_EXTRACTORS.build(dict(type='PixelFeatures')), PixelFeatures)


@pytest.mark.parametrize('sizes', [[1] * 10, [3, 7], [10]])
def test_batches_do_not_matter(sizes):
    images = pictures()
    found = extract(images.split(sizes), PixelFeatures())
    assert len(found) == 10
    assert found.identity == PixelFeatures().identity
    np.testing.assert_array_equal(found['features'], PixelFeatures()(images)['features'])
    assert found['features'].dtype == np.float32


def test_no_autocast_reaches_an_extractor():
    """bfloat16 has two or three digits."""
    images = pictures()
    matrix = torch.randn(72, 5)
    expected = images.flatten(1).float() @ matrix
    with torch.autocast('cpu', torch.bfloat16):
        assert (images.flatten(1).float() @ matrix).dtype == torch.bfloat16
        found = Multiplied(matrix)(images)['features']
    torch.testing.assert_close(found, expected)


def test_the_settings_of_precision_are_put_back():
    torch.set_float32_matmul_precision('high')
    try:
        seen = []
        spy = PixelFeatures()
        spy._compute = lambda images: (
            seen.append(torch.get_float32_matmul_precision()),
            dict(features=images.flatten(1)),
        )[1]
        spy(pictures())
        assert seen == ['highest']
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision('highest')


def test_the_first_image_whose_features_are_not_finite():
    images = pictures().clamp(min=1)
    images[[7, 9], 0, 0, 0] = 0
    with pytest.raises(InputError, match='image 7'):
        extract(images.split([4, 6]), Spoilt())
    with pytest.raises(InputError, match='image 1'):
        Features(dict(features=np.array([[0.0], [math.inf]])), 'mine')


@pytest.mark.parametrize(
    ('batches', 'name'),
    [
        ([], 'images'),
        ([torch.full((2, 3, 4, 4), math.nan)], 'float32'),
        ([torch.zeros(2, 2, 4, 4, dtype=torch.uint8)], '2, 2, 4, 4'),
    ],
)
def test_only_pictures_have_features(batches, name):
    with pytest.raises(InputError, match=name):
        extract(batches, PixelFeatures())


def test_the_digest_sees_weights_buffers_and_settings():
    def network(**settings):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, **settings), torch.nn.BatchNorm2d(4)
        ).to(torch.bfloat16)

    digest = weights_digest(network())
    assert digest == weights_digest(network())
    assert len(digest) == 16
    other = network()
    other[0].bias.data[2] += 1
    counted = network()
    counted[1].num_batches_tracked += 1
    assert len({digest, *map(weights_digest, (other, counted, network(stride=2)))}) == 4
