"""Figures by name, from features."""

from dataclasses import replace

import numpy as np
import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.metrics import (
    KNOWN_METRICS,
    Features,
    Gaussian,
    Metric,
    Reference,
    compute_scores,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from mmagic_cm.metrics.scores import available_metrics

SIZES = dict(features=8, spatial=5, logits=6)


def features(seed=0, count=200, shift=0.0, identity='mine', names=tuple(SIZES)):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal((count, SIZES[name])) + shift for name in SIZES}
    return Features({name: arrays[name] for name in names}, identity)


def statistics(real, names=('features', 'spatial'), **settings):
    """What reference.py makes of a file of statistics."""
    gaussians = {name: Gaussian.fit(real[name]) for name in names}
    settings = dict(features=None, identity=real.identity, source='ref.npz', crop='none') | settings
    return Reference(gaussians, **settings)


def test_each_is_its_function():
    samples, real = features(0, 150, 0.2), features(1)
    found = compute_scores(samples, real, KNOWN_METRICS, seed=5)
    precision, recall = precision_recall(real['features'], samples['features'])
    kid = kernel_distance(real['features'], samples['features'], seed=5)
    score = inception_score(samples['logits'])
    assert found == {
        'fid': pytest.approx(frechet_distance(real['features'], samples['features'])),
        'sfid': pytest.approx(frechet_distance(real['spatial'], samples['spatial'])),
        'kid': kid.mean,
        'kid_std': kid.std,
        'is': score.mean,
        'is_std': score.std,
        'precision': precision,
        'recall': recall,
    }
    assert precision != recall
    assert list(found) == ['fid', 'sfid', 'kid', 'kid_std', 'is', 'is_std', 'precision', 'recall']
    assert all(type(value) is float for value in found.values())


def test_only_what_is_asked_in_that_order():
    samples, real = features(0), features(1)
    assert list(compute_scores(samples, real, ['recall', 'fid', 'recall'])) == ['recall', 'fid']
    assert list(compute_scores(samples, metrics=['is'])) == ['is', 'is_std']
    assert compute_scores(samples, real, ['recall', 'precision']) == compute_scores(
        samples, real, ['precision', 'recall']
    )


def test_a_new_one_is_a_row_of_the_table(monkeypatch):
    def offset(real, rows, device, seed):
        return {'offset': float(abs(rows.mean() - real.mean()))}

    metric = Metric('logits', False, offset, real='images')
    monkeypatch.setitem(KNOWN_METRICS, 'offset', metric)
    found = compute_scores(features(shift=0.5), features(), ['offset', 'fid'])
    assert found['offset'] == pytest.approx(0.5)
    assert available_metrics(SIZES, statistics(features())) == ('fid', 'sfid', 'is')


def test_statistics_serve_for_frechet_distances():
    samples, real = features(0), features(1)
    found = compute_scores(samples, statistics(real), ('fid', 'sfid', 'is'))
    assert found == pytest.approx(compute_scores(samples, real, ('fid', 'sfid', 'is')))
    whole = statistics(real, features=real)
    metrics = ('fid', 'kid', 'precision', 'recall')
    assert compute_scores(samples, whole, metrics) == compute_scores(samples, real, metrics)


@pytest.mark.parametrize(('count', 'other'), [(8, 200), (200, 8)])
def test_one_warning_where_images_are_fewer_than_dimensions(count, other, logged):
    which = 'generated' if count == 8 else 'real'
    compute_scores(features(0, count), features(1, other), ('fid', 'sfid'))
    (message,) = logged()
    assert message.startswith(f'fid: 8 {which} ')


def test_no_warning_where_there_are_enough(logged):
    compute_scores(features(0, 9), features(1, 9), ('fid', 'sfid'))
    # A file of EDM's does not say how many images it is of.
    gaussians = {'features': Gaussian(np.zeros(8), np.eye(8))}
    reference = replace(statistics(features(1)), gaussians=gaussians)
    compute_scores(features(0, 9), reference)
    assert logged() == []


@pytest.mark.parametrize(
    ('samples', 'reference', 'metrics', 'name'),
    [
        (features(), features(identity='theirs'), ['fid'], 'theirs.* mine'),
        (features(names=('features',)), features(1), ['fid', 'is'], "'logits'"),
        (features(), statistics(features(1), names=('features',)), ['kid'], r'kid .* ref\.npz'),
        (features(), statistics(features(1), names=('features',)), ['sfid'], r'sfid .* ref\.npz'),
        (features(), None, ['is', 'recall'], 'recall'),
        (features(), features(1), ['fdi'], "'fdi'.*'fid'"),
        (features(count=1), features(1), ['fid'], 'not 1'),
    ],
)
def test_what_is_missing_is_named(samples, reference, metrics, name):
    with pytest.raises(InputError, match=name):
        compute_scores(samples, reference, metrics)


def test_a_file_that_does_not_say_its_extractor():
    reference = statistics(features(), identity=None)
    assert compute_scores(features(), reference)['fid'] == pytest.approx(0, abs=1e-9)
