"""The real digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mmagic_cm.datasets import DigitsDataset
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DATASETS

PACK = [dict(type='PackImage')]


@pytest.fixture(scope='module')
def original():
    return load_digits()


@pytest.mark.parametrize(('split', 'begin', 'length'), [('train', 0, 1400), ('test', 1400, 397)])
def test_splits_hold_the_original_digits(original, split, begin, length):
    dataset = DigitsDataset(split=split, pipeline=PACK)
    assert len(dataset) == length
    items = [dataset[i] for i in range(length)]
    images = torch.stack([item['inputs'] for item in items])
    assert images.dtype == torch.uint8
    assert images.shape == (length, 1, 8, 8)
    part = slice(begin, begin + length)
    # 0..16 are spread over 0..255 and come back exactly.
    assert np.array_equal(np.rint(images[:, 0].numpy() / 255 * 16), original.images[part])
    assert (images.min(), images.max()) == (0, 255)
    assert [item['labels'] for item in items] == original.target[part].tolist()


def test_splits_share_no_digit_and_hold_all_classes(original):
    assert len(original.images) == 1400 + 397
    for split in 'train', 'test':
        dataset = DigitsDataset(split=split)
        labels = [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]
        assert sorted(set(labels)) == [*range(10)]
        assert np.bincount(labels).min() > len(dataset) / 15


def test_configs_build_it():
    dataset = DATASETS.build(dict(type='DigitsDataset', split='test', pipeline=PACK, indices=7))
    assert len(dataset) == 7
    assert dataset.metainfo['classes'] == tuple('0123456789')
    with pytest.raises(InputError, match="'val'"):
        DigitsDataset(split='val')
