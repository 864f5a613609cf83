"""LPIPS against recorded numbers, with VGG16 weights that are made here."""

import socket
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from mmagic_cm.errors import InputError
from mmagic_cm.io import cached_file
from mmagic_cm.objectives import LPIPS, lpips
from mmagic_cm.registry import DISTANCES, resolve

FILE_NAME = 'vgg16-397923af.pth'


def made_weights(seed: int) -> dict[str, torch.Tensor]:
    """The VGG16 of the reference numbers (see ``lpips.npz`` in their README)."""
    with torch.device('meta'):
        features = vgg16().features
    weights = {}
    for name, old in features.state_dict(prefix='features.').items():
        stream = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        new = stream.standard_normal(tuple(old.shape))
        new *= np.sqrt(2 / old[0].numel()) if old.ndim > 1 else 0.1
        weights[name] = torch.from_numpy(new.astype(np.float32))
    return weights


@pytest.fixture(scope='module')
def reference(goldens) -> dict:
    return goldens('lpips')


@pytest.fixture(scope='module')
def weights(reference, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('vgg') / 'vgg16.pth'
    torch.save(made_weights(int(reference['seed'])), path)
    return path


@pytest.fixture(scope='module')
def distance(weights) -> LPIPS:
    """The one that is loaded once for many tests: small images as they are."""
    distance = LPIPS(weights, resize=None)
    distance.load()
    return distance


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'hub/checkpoints'


@pytest.fixture
def offline(monkeypatch) -> None:
    def refuse(*args, **settings):
        raise OSError('Network is unreachable')

    monkeypatch.setattr(socket, 'socket', refuse)
    monkeypatch.setattr(socket, 'create_connection', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


def pair(channels: int = 3, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, channels, size, size) * 2 - 1, torch.rand(2, channels, size, size) * 2 - 1


@pytest.mark.parametrize(
    ('pooling', 'resize', 'name'),
    [
        ('max', None, 'native'),
        ('avg', None, 'native'),
        ('avg', 224, '224'),
        pytest.param('max', 224, '224', marks=pytest.mark.slow),
    ],
)
def test_distances_equal_the_recorded_ones(reference, weights, pooling, resize, name):
    distance = LPIPS(str(weights), pooling, resize)
    found = distance(reference['a'], reference['b'])
    assert found.shape == (4,)
    expected = reference[f'lpips_{pooling}_{name}']
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_the_registry_knows_it(weights):
    assert isinstance(resolve(DISTANCES, 'lpips'), LPIPS)
    built = resolve(DISTANCES, dict(type='lpips', weights=str(weights), pooling='avg', resize=64))
    assert (built.path, built.pooling, built.resize) == (weights, 'avg', 64)


@pytest.mark.parametrize(('size', 'seen'), [(32, 224), (255, 224), (256, 256), (300, 300)])
def test_only_images_of_less_than_256_are_resized(size, seen):
    distance, sizes = LPIPS(), []
    images = nn.Module()
    images.scaling_layer = nn.Identity()
    images.net = lambda x: [sizes.append(x.shape[2:]) or x]
    images.lins = [lambda x: x.mean(1, keepdim=True)]
    distance.network = images
    assert distance(*pair(size=size)).shape == (2,)
    assert sizes == [(seen, seen)] * 2


def test_equal_images_have_no_distance_and_order_does_not_matter(distance):
    a, b = pair()
    assert torch.equal(distance(a, a), torch.zeros(2))
    assert torch.equal(distance(a, b), distance(b, a))
    assert (distance(a, b) > 0).all()


def test_gray_images_are_three_equal_channels(distance):
    a, b = pair(channels=1)
    assert torch.equal(distance(a, b), distance(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize('moved', [0, 1])
def test_gradients_agree_with_differences(distance, moved):
    images = list(pair())
    images[moved].requires_grad_()
    distance(*images).sum().backward()
    gradient = images[moved].grad
    slope, step = float(gradient.norm()), 0.02
    ends = []
    with torch.no_grad():
        for sign in 1, -1:
            shifted = list(images)
            shifted[moved] = images[moved] + sign * step * gradient / slope
            ends.append(distance(*shifted).double().sum())
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=2e-2)


def test_gradients_are_finite_where_features_vanish(distance, weights, tmp_path):
    dead = torch.load(weights, weights_only=True)
    dead['features.28.bias'] -= 1e4  # the last layer is 0 everywhere
    torch.save(dead, tmp_path / 'dead.pth')
    a, b = pair()
    a.requires_grad_()
    LPIPS(tmp_path / 'dead.pth', resize=None)(a, b).sum().backward()
    assert a.grad.isfinite().all()
    assert a.grad.abs().max() > 0


def test_it_is_frozen_and_stays_in_evaluation_mode(distance):
    assert not any(weight.requires_grad for weight in distance.parameters())
    a, b = pair()
    before = distance(a, b)
    assert not any(module.training for module in distance.train().modules())
    assert torch.equal(distance(a, b), before)


def test_the_network_follows_autocast_and_the_comparison_stays_in_float32(distance):
    a, b = pair()
    a.requires_grad_()
    expected = distance(a, b)
    with torch.autocast('cpu', torch.bfloat16):
        found = distance(a, b)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert torch.allclose(found, expected, rtol=0.02)
    gradients = [torch.autograd.grad(d.sum(), a)[0] for d in (found, expected)]
    assert torch.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.99
    assert distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_it_can_be_made_on_the_meta_device(weights):
    a, b = (image.requires_grad_() for image in pair())
    with torch.device('meta'):
        distance = LPIPS(weights, resize=None)
        distance.load()
    distance(a, b).sum().backward()
    assert a.grad.isfinite().all()


def test_loading_while_sampling_does_not_spoil_training(weights):
    a, b = (image.requires_grad_() for image in pair())
    distance = LPIPS(weights, resize=None)
    with torch.inference_mode():
        distance(a, b)
    distance(a, b).sum().backward()
    assert a.grad.abs().max() > 0


def test_the_classifier_is_not_needed_and_does_no_harm(distance, weights, tmp_path):
    whole = torch.load(weights, weights_only=True) | {'classifier.0.weight': torch.zeros(1)}
    torch.save(whole, tmp_path / 'whole.pth')
    a, b = pair()
    assert torch.equal(LPIPS(tmp_path / 'whole.pth', resize=None)(a, b), distance(a, b))


def test_loading_again_does_nothing(weights, monkeypatch):
    distance = LPIPS(weights)
    distance.load()
    network = distance.network
    monkeypatch.setattr(lpips, 'read_checkpoint', None)
    distance.load()
    assert distance.network is network


def test_the_constructor_reads_and_downloads_nothing(hub, offline, monkeypatch):
    monkeypatch.setattr(lpips, 'read_checkpoint', None)
    monkeypatch.setattr(cached_file, 'download', None)
    state = torch.get_rng_state()
    assert [*LPIPS().parameters()] == []
    LPIPS('/nowhere.pth')
    assert torch.equal(torch.get_rng_state(), state)


def test_offline_the_file_and_its_place_are_named(hub, offline):
    place = hub / FILE_NAME
    url = VGG16_Weights.IMAGENET1K_V1.url
    with pytest.raises(InputError) as caught:
        LPIPS().fetch()
    message = str(caught.value)
    assert url in message
    assert str(place) in message
    assert 'Network is unreachable' in message
    # A call never downloads.
    with pytest.raises(InputError, match='VGG16 of LPIPS') as caught:
        LPIPS()(*pair())
    assert f'put {url} at {place}' in str(caught.value)
    assert not place.exists()


def test_fetch_downloads_once_into_the_cache(hub, weights, monkeypatch):
    calls = []

    def download(url, path, check, progress):
        calls.append((url, path, check.__self__.digest))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(weights.read_bytes())

    monkeypatch.setattr(cached_file, 'download', download)
    distance = LPIPS(resize=None)
    distance.fetch()
    assert calls == [(VGG16_Weights.IMAGENET1K_V1.url, hub / FILE_NAME, '397923af')]
    assert distance(*pair()).shape == (2,)


def test_only_one_process_of_a_machine_downloads(hub, weights, monkeypatch):
    waiting = []

    def first_process_is_done():
        waiting.append(True)
        hub.mkdir(parents=True)
        (hub / FILE_NAME).write_bytes(weights.read_bytes())

    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setattr(cached_file, 'download', None)
    monkeypatch.setattr(cached_file, 'barrier', first_process_is_done)
    LPIPS().fetch()
    assert waiting


def test_the_other_processes_do_not_wait_for_a_download_that_failed(hub, offline, monkeypatch):
    waiting = []
    monkeypatch.setattr(cached_file, 'barrier', lambda: waiting.append(True))
    for rank in '0', '1':
        monkeypatch.setenv('LOCAL_RANK', rank)
        with pytest.raises(InputError, match='vgg16'):
            LPIPS().fetch()
    assert len(waiting) == 2


def test_another_network_is_refused(weights, tmp_path):
    spoilt = torch.load(weights, weights_only=True)
    del spoilt['features.0.weight']
    torch.save(spoilt, tmp_path / 'spoilt.pth')
    with pytest.raises(InputError, match=r'spoilt\.pth.*features\.0\.weight'):
        LPIPS(tmp_path / 'spoilt.pth').load()


@pytest.mark.parametrize(
    ('make', 'name'),
    [
        (lambda: LPIPS(pooling='mean'), "'mean'"),
        (lambda: LPIPS(resize=8), '8'),
        (lambda: LPIPS('/nowhere.pth').load(), '/nowhere.pth'),
        (lambda: LPIPS('/nowhere.pth').fetch(), '/nowhere.pth'),
        (lambda: LPIPS()(torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32)), r'\(1, 2, 32'),
        (lambda: LPIPS()(torch.zeros(1, 3, 32, 32), torch.zeros(2, 3, 32, 32)), r'\(2, 3, 32'),
        (lambda: LPIPS(resize=None)(*pair(size=8)), '8 x 8'),
    ],
)
def test_mistakes_are_answered_in_one_sentence(make, name):
    with pytest.raises(InputError, match=name) as caught:
        make()
    assert '\n' not in str(caught.value)
