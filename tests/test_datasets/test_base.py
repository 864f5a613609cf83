"""Images with random draws of their own, through PyTorch's data loader."""

import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS, DefaultScope
from torch.utils.data import DataLoader

from mmagic_cm.datasets import ImageDataset, ResumableSampler


class Gradients(ImageDataset):
    """Twelve colour images that a flip changes."""

    def load_data_list(self) -> list[dict]:
        image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
        return [dict(img=image + 10 * i, gt_label=i % 4) for i in range(12)]


@pytest.fixture
def dataset() -> Gradients:
    return Gradients(pipeline=[dict(type='RandomFlip'), dict(type='PackImage')])


def batches(dataset, count: int, start: int = 0, workers: int = 0, seed: int = 0) -> list[dict]:
    sampler = ResumableSampler(dataset, seed=seed)
    sampler.start = start
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        collate_fn=FUNCTIONS.get('default_collate'),
        multiprocessing_context='fork' if workers else None,
    )
    return [*itertools.islice(loader, count)]


def assert_same(a: list[dict], b: list[dict]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        assert torch.equal(one['labels'], other['labels'])


def test_batches_have_the_shape_that_the_model_takes(dataset):
    for batch in batches(dataset, 5):
        assert batch.keys() == {'inputs', 'labels'}
        assert batch['inputs'].shape == (4, 3, 4, 5)
        assert batch['inputs'].dtype == torch.uint8
        assert batch['labels'].shape == (4,)
        assert batch['labels'].dtype == torch.int64


@pytest.mark.parametrize('workers', [1, 2])
def test_workers_change_nothing(dataset, workers):
    assert_same(batches(dataset, 5), batches(dataset, 5, workers=workers))


def test_a_batch_depends_on_its_draws_alone(dataset):
    expected = batches(dataset, 6)
    random.seed(1)
    torch.manual_seed(1)
    assert_same(expected[2:], batches(dataset, 4, start=8))


def test_an_image_is_flipped_anew_each_time_it_comes(dataset):
    flipped = set()
    for key in range(20):
        image = dataset[3, (0, key)]['inputs']
        assert torch.equal(image, dataset[3, (0, key)]['inputs'])
        plain = torch.equal(image, dataset[3, (0, 0)]['inputs'])
        flipped.add(plain)
        assert plain or torch.equal(image, dataset[3, (0, 0)]['inputs'].flip(-1))
    assert flipped == {True, False}


def test_seeds_flip_other_images(dataset):
    one, other = (
        [dataset[0, (seed, key)]['inputs'].tolist() for key in range(20)] for seed in range(2)
    )
    assert one != other


@pytest.mark.parametrize('index', [5, np.int64(5)])
def test_plain_indices_work(dataset, index):
    item = dataset[index]
    assert item['labels'] == 1
    assert torch.equal(item['inputs'], dataset[5]['inputs'])


def spoil(results: dict) -> dict:
    results['before'] = int(results['img'].max())
    results['img'] *= 0
    return results


@pytest.mark.parametrize('serialize', [True, False])
def test_transforms_may_not_change_the_data(serialize):
    dataset = Gradients(pipeline=[spoil], serialize_data=serialize)
    assert [dataset[0]['before'], dataset[0]['before']] == [59, 59]


@pytest.mark.parametrize('scope', ['mmengine', 'mmagic_cm'])
def test_names_of_transforms_are_ours_in_any_scope(dataset, scope):
    # MMagic's inferencer leaves its own scope behind.
    with DefaultScope.overwrite_default_scope(scope):
        again = Gradients(pipeline=[dict(type='RandomFlip'), dict(type='PackImage')])
    assert_same(batches(again, 3), batches(dataset, 3))
