"""Statistics of real images: read, computed once, refused where they do not fit."""

import logging
import resource

import numpy as np
import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.errors import InputError
from mmagic_cm.evaluation import read_reference, reference, save_reference
from mmagic_cm.io.images import save_images, save_npz
from mmagic_cm.metrics import (
    Features,
    InceptionFeatures,
    ModuleFeatures,
    PixelFeatures,
    compute_scores,
)
from mmagic_cm.metrics.features import FeatureExtractor
from mmagic_cm.metrics.scores import available_metrics

IMAGES = load_split('test')[0]
ALL = ('fid', 'sfid', 'kid', 'is', 'precision', 'recall')


class FakeInception(InceptionFeatures):
    """Without weights: 12 numbers of a picture as features, others as spatial and as logits."""

    identity = 'fake inception'

    def _compute(self, images):
        pixels = images.flatten(1).float() / 255
        return dict(features=pixels[:, 20:32], spatial=pixels[:, 32:40], logits=pixels[:, :10])


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    """How often images were looked at."""
    calls = []
    call = FeatureExtractor.__call__

    def count(self, images):
        calls.append(len(images))
        return call(self, images)

    monkeypatch.setattr(FeatureExtractor, '__call__', count)
    return calls


def batch(images=IMAGES) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def save_adm(path, images=IMAGES, **changes) -> dict:
    """A file as ADM's are: statistics of the data set, and some of its images."""
    found = FakeInception()(batch(images))
    arrays = {}
    for name, (mean, covariance) in dict(
        features=('mu', 'sigma'), spatial=('mu_s', 'sigma_s')
    ).items():
        rows = found[name].double().numpy()
        arrays |= {mean: rows.mean(0), covariance: np.cov(rows, rowvar=False)}
    arrays |= dict(arr_0=images[:50]) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return found


def samples(images) -> Features:
    extractor = FakeInception()
    found = extractor(batch(images))
    return Features({name: rows.numpy() for name, rows in found.items()}, extractor.identity)


def test_adms_file_gives_what_its_images_give(tmp_path):
    found = save_adm(tmp_path / 'adm.npz')
    real = read_reference(tmp_path / 'adm.npz', FakeInception(), ALL)
    assert real.identity is None
    assert real.describe()['extractor of the reference'].endswith(
        'the Inception of 2015 is assumed'
    )
    assert real.describe()['reference images'] is None
    assert real.size == (8, 8)
    assert np.array_equal(real.features['features'], found['features'][:50].numpy())
    drawn = samples(IMAGES[:300] // 2)
    scores = compute_scores(drawn, real, ALL)
    rows = Features({name: array.numpy() for name, array in found.items()}, 'fake inception')
    expected = compute_scores(drawn, rows, ('fid', 'sfid'))
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-6)
    of_images = Features({'features': found['features'][:50].numpy()}, 'fake inception')
    expected = compute_scores(drawn, of_images, ('kid', 'precision', 'recall'))
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value)


def test_images_of_adms_file_are_looked_at_only_where_they_are_needed(tmp_path, cache):
    save_adm(tmp_path / 'adm.npz')
    cache.clear()
    assert read_reference(tmp_path / 'adm.npz', FakeInception(), ('fid', 'sfid')).features is None
    assert cache == []
    read_reference(tmp_path / 'adm.npz', FakeInception(), ('fid', 'recall'))
    assert sum(cache) == 50
    read_reference(tmp_path / 'adm.npz', FakeInception())
    assert sum(cache) == 50


def test_edms_file_has_statistics_alone(tmp_path):
    save_adm(tmp_path / 'edm.npz', arr_0=None, mu_s=None, sigma_s=None)
    real = read_reference(tmp_path / 'edm.npz', FakeInception())
    assert available_metrics(FakeInception.names, real) == ('fid', 'is')
    assert real.crop == 'not recorded in the file'
    for metric in ('sfid', 'recall'):
        with pytest.raises(InputError, match=metric):
            read_reference(tmp_path / 'edm.npz', FakeInception(), (metric,))


@pytest.mark.parametrize('kind', ['npz', 'folder', 'config'])
def test_pictures_are_looked_at_once(kind, tmp_path, cache):
    source = tmp_path / ('set.npz' if kind == 'npz' else 'set')
    if kind == 'npz':
        save_npz(IMAGES, None, source)
    elif kind == 'folder':
        save_images(IMAGES, source)
    else:
        source = dict(dataset=dict(type='DigitsDataset', split='test'))
    first = read_reference(source, PixelFeatures(), crop=8)
    assert sum(cache) == len(IMAGES)
    again = read_reference(source, PixelFeatures(), crop=8)
    assert sum(cache) == len(IMAGES)
    assert again.describe() == first.describe()
    assert (again.size, again.count) == ((8, 8), len(IMAGES))
    pixels = IMAGES.reshape(len(IMAGES), -1) / 127.5 - 1
    for found in first, again:
        gaussian = found.gaussians['features']
        assert gaussian.mean == pytest.approx(pixels.mean(0), abs=1e-6)
        assert gaussian.covariance == pytest.approx(np.cov(pixels, rowvar=False), abs=1e-6)
        assert found.features['features'] == pytest.approx(pixels, abs=1e-6)
    assert again.describe()['extractor of the reference'] == PixelFeatures().identity


@pytest.mark.parametrize('full', [0, 8000])
def test_a_cache_on_a_full_disk_costs_a_warning(full, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(reference, 'print_log', lambda *args: said.append(args))
    save_npz(IMAGES, None, tmp_path / 'set.npz')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, before[1]))
    try:
        assert read_reference(tmp_path / 'set.npz', PixelFeatures()).count == len(IMAGES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    [(text, _, level)] = said
    assert 'could not be kept' in text
    assert level == logging.WARNING
    assert not [*(tmp_path / 'cache/statistics').iterdir()]


def test_they_are_looked_at_again_when_they_change(tmp_path, cache):
    path = tmp_path / 'set.npz'
    save_npz(IMAGES, None, path)
    read_reference(path, PixelFeatures())
    save_npz(IMAGES[:100], None, path)
    assert read_reference(path, PixelFeatures()).count == 100
    assert sum(cache) == len(IMAGES) + 100
    # Another extractor has statistics of its own, beside these.
    other = ModuleFeatures(torch.nn.Flatten(), mean=[0.5], std=[0.5])
    assert read_reference(path, other).identity == other.identity
    assert read_reference(path, PixelFeatures()).identity == PixelFeatures().identity
    assert sum(cache) == len(IMAGES) + 200
    # So has another crop.
    save_images(IMAGES[:20], tmp_path / 'set')
    crops = [read_reference(tmp_path / 'set', PixelFeatures(), crop=crop) for crop in (8, 4)]
    assert [found.size for found in crops] == [(8, 8), (4, 4)]
    assert 'resized to 4 x 4' in crops[1].crop
    assert sum(cache) == len(IMAGES) + 240


def test_saved_statistics_are_a_reference(tmp_path):
    save_npz(IMAGES, None, tmp_path / 'set.npz')
    real = read_reference(tmp_path / 'set.npz', FakeInception())
    save_reference(real, tmp_path / 'mine.npz')
    again = read_reference(tmp_path / 'mine.npz', FakeInception(), ALL)
    assert again.describe() == real.describe()
    assert sorted(path.name for path in tmp_path.glob('*npz*')) == ['mine.npz', 'set.npz']
    drawn = samples(IMAGES[:300] // 2)
    assert compute_scores(drawn, again, ALL) == compute_scores(drawn, real, ALL)
    with np.load(tmp_path / 'mine.npz') as file:  # as evaluators of others read it
        assert file['mu'].shape == (12,)
        assert file['sigma_s'].shape == (8, 8)


def test_a_mismatch_is_refused(tmp_path):
    save_npz(IMAGES, None, tmp_path / 'set.npz')
    save_reference(read_reference(tmp_path / 'set.npz', PixelFeatures()), tmp_path / 'mine.npz')
    with pytest.raises(InputError, match=r'PixelFeatures.* fake inception'):
        read_reference(tmp_path / 'mine.npz', FakeInception())
    with pytest.raises(InputError, match=r'16 x 16 .* 8 x 8'):
        read_reference(tmp_path / 'mine.npz', PixelFeatures(), crop=16)
    # Files that do not say are taken for features of Inception.
    save_adm(tmp_path / 'adm.npz')
    with pytest.raises(InputError, match=r'adm\.npz .* PixelFeatures'):
        read_reference(tmp_path / 'adm.npz', PixelFeatures())


def test_only_some_images_keep_their_features(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, 'NUM_KEPT', 10)
    save_npz(IMAGES[:100], None, tmp_path / 'set.npz')
    real = read_reference(tmp_path / 'set.npz', PixelFeatures())
    kept = PixelFeatures()(batch(IMAGES[[0, 11, 22, 33, 44, 55, 66, 77, 88, 99]]))['features']
    assert np.array_equal(real.features['features'], kept.numpy())
    assert (real.count, len(real.features)) == (100, 10)


def test_damaged_and_wrong_statistics_are_refused(tmp_path):
    path = tmp_path / 'adm.npz'
    for name, changes in (
        ('mu and sigma: ', dict(mu=np.zeros((2, 3)))),
        ('mu_s and sigma_s: ', dict(mu_s=np.full(8, np.nan))),
        ('mu_s, sigma_s', dict(mu=None, sigma=None, arr_0=None)),
        ('allow_pickle', dict(mu=np.array([{}], dtype=object))),
        ('arr_0', dict(arr_0=np.zeros((2, 8, 8)))),
    ):
        save_adm(path, **changes)
        with pytest.raises(InputError, match=name):
            read_reference(path, FakeInception())
    for content in (b'', b'nothing', b'PK'):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r'adm\.npz'):
            read_reference(path, FakeInception())
    save_npz(IMAGES[:1], None, path)
    with pytest.raises(InputError, match='not 1'):
        read_reference(path, FakeInception())


def test_statistics_much_larger_than_the_file_are_not_read(tmp_path):
    path = tmp_path / 'adm.npz'
    np.savez_compressed(path, mu=np.zeros(3), sigma=np.zeros((3000, 3000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r'adm\.npz .* sigma'):
        read_reference(path, FakeInception())
