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


@pytest.mark.parametrize('wrong', [dict(num_samples=0), dict(num_classes='auto')])
def test_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DATASETS.build(dict(type='SampleNumbers', **(dict(num_samples=2) | wrong)))
