"""The Inception network, with random weights: its features, and figures from files."""

import hashlib

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mmagic_cm.errors import InputError
from mmagic_cm.io import cached_file
from mmagic_cm.metrics import InceptionFeatures, compute_scores, extract, inception_score
from mmagic_cm.metrics import inception as inception_module
from mmagic_cm.metrics.kid import kernel_distance
from mmagic_cm.registry import FEATURE_EXTRACTORS

NAME = 'weights-inception-2015-12-05-6726825d.pth'


@pytest.fixture(scope='module')
def extractor(inception_file):
    return FEATURE_EXTRACTORS.build(dict(type='InceptionFeatures', weights=str(inception_file)))


@pytest.fixture(scope='module')
def theirs(inception_file):
    return FeatureExtractorInceptionV3(
        'inception-v3-compat',
        ['2048', 'logits_unbiased'],
        feature_extractor_weights_path=inception_file,
    )


def pictures(count=2, channels=3, size=24):
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


def test_features_and_logits_are_torch_fidelitys(extractor, theirs):
    images = pictures()
    found = extractor(images)
    features, logits = theirs(images)
    assert found.keys() == {'features', 'spatial', 'logits'}
    torch.testing.assert_close(found['features'], features, rtol=0, atol=0)
    torch.testing.assert_close(found['logits'], logits, rtol=0, atol=0)
    assert features.shape == (2, 2048)
    assert (features[0] - features[1]).abs().max() > 0.05


def test_spatial_features_in_the_order_of_tensorflow(extractor, theirs):
    """The value of row h, column w, channel c comes at (17 h + w) 7 + c."""
    images = pictures()
    maps = []
    handle = theirs.Mixed_6d.register_forward_pre_hook(lambda module, inputs: maps.append(inputs))
    theirs(images)
    handle.remove()
    block = theirs.Mixed_6d.branch1x1
    expected = block.bn(block.conv(maps[0][0])).relu()
    assert expected.shape == (2, 192, 17, 17)
    found = extractor(images)['spatial']
    assert found.shape == (2, 2023)
    for h, w, c in ((0, 0, 0), (0, 1, 6), (1, 0, 2), (16, 16, 6), (9, 4, 3)):
        torch.testing.assert_close(found[:, (17 * h + w) * 7 + c], expected[:, c, h, w])
    torch.testing.assert_close(found.sum(1), expected[:, :7].sum((1, 2, 3)))
    assert found.std() > 0.01
    assert not theirs.Mixed_6d.branch1x1._forward_hooks
    assert not extractor.network.Mixed_6d.branch1x1._forward_hooks


def test_gray_pictures_are_repeated(extractor):
    gray = pictures(1, channels=1)
    found, expected = extractor(gray), extractor(gray.repeat(1, 3, 1, 1))
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_identity_follows_the_weights(inception_file, extractor, tmp_path):
    weights = torch.load(inception_file, weights_only=True)
    # The published file has no counts of batches, which nothing depends on.
    weights = {k: v for k, v in weights.items() if not k.endswith('num_batches_tracked')}
    torch.save(weights, tmp_path / 'same.pth')
    assert InceptionFeatures(tmp_path / 'same.pth').identity == extractor.identity
    weights['Mixed_7c.branch_pool.bn.bias'][3] += 1e-3
    torch.save(weights, tmp_path / 'other.pth')
    assert InceptionFeatures(tmp_path / 'other.pth').identity != extractor.identity


def test_missing_weights_say_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    extractor = InceptionFeatures()
    with pytest.raises(InputError, match=rf'https://.*{NAME} at .*{NAME}'):
        extractor(pictures())
    with pytest.raises(InputError, match=r'none\.pth'):
        InceptionFeatures(tmp_path / 'none.pth').fetch()


def test_other_weights_are_refused(tmp_path):
    torch.save({'conv.weight': torch.zeros(2)}, tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match='Missing') as caught:
        InceptionFeatures(tmp_path / 'other.pth').load()
    assert 'other.pth' in caught.value.__notes__[0]


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath('ran').touch, ())

    torch.save({'trap': Trap()}, tmp_path / 'trap.pth')
    with pytest.raises(InputError, match=r'trap\.pth'):
        InceptionFeatures(tmp_path / 'trap.pth').load()
    assert not (tmp_path / 'ran').exists()


def test_fetch_checks_the_hash(tmp_path, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'served').write_bytes(b'weights')
    beginning = hashlib.sha256(b'weights').hexdigest()[:8]
    served = (tmp_path / 'served').as_uri()

    def download(url, path, check, progress):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((tmp_path / 'served').read_bytes())
        check(path)

    monkeypatch.setattr(cached_file, 'download', download)
    monkeypatch.setattr(inception_module, '_url', lambda: f'{served}-{beginning}.pth')
    InceptionFeatures().fetch()
    assert (tmp_path / 'cache' / f'served-{beginning}.pth').is_file()
    monkeypatch.setattr(inception_module, '_url', lambda: f'{served}-00000000.pth')
    with pytest.raises(InputError, match=f'{beginning}.* 00000000'):
        InceptionFeatures().fetch()


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Two folders of PNG files: noise, of different contrast."""
    rng = np.random.default_rng(0)
    found = []
    for name, contrast in (('generated', 40), ('real', 50)):
        folder = tmp_path_factory.mktemp(name)
        for i in range(12):
            coarse = rng.normal(130, contrast, (4, 4, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(coarse).resize((20, 20)).save(folder / f'{i:02}.png')
        found.append(folder)
    return found


def read(folder):
    images = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@pytest.mark.slow
def test_from_files_to_numbers_as_torch_fidelity(inception_file, extractor, folders):
    samples, real = (extract(read(folder).split(5), extractor) for folder in folders)
    found = compute_scores(samples, real, ('fid', 'precision', 'recall'))
    kid = kernel_distance(real['features'], samples['features'], 10, 8, seed=2020)
    score = inception_score(samples['logits'], split_size=4)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
        batch_size=4,
        samples_shuffle=False,
        feature_extractor='inception-v3-compat',
        feature_extractor_weights_path=str(inception_file),
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        kid_subsets=10,
        kid_subset_size=8,
        isc_splits=3,
    )
    assert {
        'frechet_inception_distance': found['fid'],
        'kernel_inception_distance_mean': kid.mean,
        'kernel_inception_distance_std': kid.std,
        'inception_score_mean': score.mean,
        'inception_score_std': score.std,
        'precision': found['precision'],
        'recall': found['recall'],
    } == {
        name: pytest.approx(value, rel=1e-5, abs=1e-6)
        for name, value in theirs.items()
        if name != 'f_score'
    }
    assert score.mean > 1.001
    assert 0 < found['recall'] < found['precision'] < 1
