"""What validation and test are to draw."""

import pytest
from torch.utils.data import default_collate

from mmagic_cm.errors import InputError
from mmagic_cm.registry import DATASETS
from mmagic_cm.sampling.loop import choose_labels


@pytest.mark.parametrize('seed', [0, 7])
def test_labels_are_those_of_generate(model, seed):
    numbers = DATASETS.build(dict(type='SampleNumbers', num_samples=30, num_classes=10, seed=seed))
    batch = default_collate([*numbers])
    assert batch['indices'].tolist() == [*range(30)]
    assert batch['labels'].tolist() == choose_labels(model, range(30), seed=seed).tolist()


def test_without_classes_there_are_no_labels():
    numbers = DATASETS.build(dict(type='SampleNumbers', num_samples=3))
    assert [*numbers] == [dict(indices=0), dict(indices=1), dict(indices=2)]
    assert len(numbers) == 3


@pytest.mark.parametrize(
    ('settings', 'match'),
    [
        (dict(num_samples=0), 'num_samples must be at least 1, not 0'),
        (dict(num_samples=2, num_classes='auto'), "num_classes must be at least 1, not 'auto'"),
        (dict(num_samples=2, seed=-1), 'seed must be a whole number from 0 up, not -1'),
    ],
)
def test_refuses(settings, match):
    with pytest.raises(InputError, match=match):
        DATASETS.build(dict(type='SampleNumbers', **settings))
