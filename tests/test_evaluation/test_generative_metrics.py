"""The metric inside of MMEngine: batches, processes, a run that validates."""

import numpy as np
import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.errors import InputError
from mmagic_cm.evaluation import GenerativeMetrics
from mmagic_cm.registry import METRICS

REAL = dict(dataset=dict(type='DigitsDataset'))
NAMES = ('fid', 'precision', 'recall')
DRAWN = load_split('test')[0][:60]


def build(names=NAMES, **settings) -> GenerativeMetrics:
    settings = dict(reference=REAL, extractor='PixelFeatures') | settings
    return METRICS.build(dict(type='GenerativeMetrics', names=names, **settings))


def feed(metric, numbers, size=10) -> None:
    """Process the images of these numbers in batches."""
    for begin in range(0, len(numbers), size):
        part = numbers[begin : begin + size]
        samples = [dict(image=torch.from_numpy(DRAWN[i]).permute(2, 0, 1)) for i in part]
        metric.process(dict(indices=torch.tensor(part)), samples)


def test_batches_order_and_repetitions_change_nothing(figures_of):
    metric = build()
    for numbers, size in ((range(60), 10), ([3, 3, 17, *range(59, -1, -1)], 7)):
        feed(metric, [*numbers], size)
        assert metric.evaluate(60) == figures_of(DRAWN, NAMES)
    assert metric.about['images'] == 60
    assert metric.about['reference'] == 'DigitsDataset'
    assert metric.about['crop of the reference'] == 'none: 8 x 8 as stored'


@pytest.mark.slow
@pytest.mark.parametrize(
    'shares',
    [
        [[*range(0, 60, 2)], [*range(1, 60, 2)]],
        # As a padded sampler gives them, and of different lengths.
        [[*range(2, 60, 3)], [*range(1, 60, 3), 2, 5], [*range(0, 60, 3), 8]],
    ],
    ids=['two', 'three'],
)
def test_processes_give_the_figures_of_one(shares, in_processes, figures_of, tmp_path):
    def work(rank):
        metric = build()
        feed(metric, shares[rank])
        figures = metric.evaluate(60)
        np.save(tmp_path / f'{rank}.npy', [figures[name] for name in NAMES])

    assert in_processes(len(shares), work) == [0] * len(shares)
    for rank in range(len(shares)):
        found = dict(zip(NAMES, np.load(tmp_path / f'{rank}.npy'), strict=True))
        assert found == figures_of(DRAWN, NAMES)


def test_images_that_were_not_drawn_are_missed():
    metric = build(('fid',), prefix='pixels')
    feed(metric, [*range(60)])
    assert metric.evaluate(60).keys() == {'pixels/fid'}
    feed(metric, [*range(50), 3])
    with pytest.raises(InputError, match=r'50 .* 60'):
        metric.evaluate(60)


def test_what_is_missing_is_said_before_anything_is_drawn(tmp_path):
    for settings, name in (
        (dict(reference=str(tmp_path / 'none.npz')), r'none\.npz'),
        (dict(reference=None), 'fid needs'),
        (dict(names=('is',)), "is needs 'logits'"),
        (dict(extractor='InceptionFeatures'), 'InceptionFeatures'),
    ):
        metric = build(**settings)
        with pytest.raises(InputError, match=name):
            metric.dataset_meta = {}
    metric = build()
    with pytest.raises(InputError, match='indices'):
        metric.process({}, [dict(image=torch.zeros(1, 8, 8, dtype=torch.uint8))])
    wrong = [dict(image=torch.zeros(1, 4, 4, dtype=torch.uint8))]
    with pytest.raises(InputError, match='4 x 4'):
        metric.process(dict(indices=[0]), wrong)
