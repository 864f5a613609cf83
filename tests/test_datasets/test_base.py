"""Images with random draws of their own, through PyTorch's data loader."""

import re

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from torch._utils import ExceptionWrapper

from mmagic_cm.datasets import (
    BadImageError,
    ImageDataset,
    ImageFolder,
    PackImage,
    RandomFlip,
    base,
)

FLIP = [dict(type='RandomFlip'), dict(type='PackImage')]


class Gradients(ImageDataset):
    """Twelve colour images that a flip changes."""

    def load_data_list(self) -> list[dict]:
        image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
        return [dict(img=image + 10 * i, gt_label=i % 4) for i in range(12)]


@pytest.fixture
def dataset() -> Gradients:
    return Gradients(pipeline=FLIP)


def test_batches_have_the_shape_that_the_model_takes(dataset, batches, assert_exact):
    for batch in batches(dataset, 5):
        assert batch.keys() == {'inputs', 'labels', 'indices'}
        assert batch['inputs'].shape == (4, 3, 4, 5)
        assert batch['inputs'].dtype == torch.uint8
        assert batch['labels'].shape == (4,)
        assert batch['labels'].dtype == torch.int64
    assert_exact(dataset)


def test_an_image_is_flipped_anew_each_time_it_comes(dataset):
    image = dataset[3, (0, 0)]['inputs']
    plain = []
    for seed in range(2):
        draws = [dataset[3, (seed, key)]['inputs'] for key in range(20)]
        assert all(torch.equal(a, image) or torch.equal(a, image.flip(-1)) for a in draws)
        assert all(torch.equal(a, dataset[3, (seed, key)]['inputs']) for key, a in enumerate(draws))
        plain.append([torch.equal(a, image) for a in draws])
    assert {*plain[0]} == {True, False}
    assert plain[0] != plain[1]


def spoil(results: dict) -> dict:
    results['before'] = int(results['img'].max())
    results['img'] *= 0
    return results


@pytest.mark.parametrize('serialize', [True, False])
def test_transforms_may_not_change_the_data(serialize):
    dataset = Gradients(pipeline=[spoil], serialize_data=serialize)
    assert [dataset[0]['before'], dataset[0]['before']] == [59, 59]


@pytest.mark.parametrize('scope', ['mmengine', 'mmagic_cm'])
def test_names_of_transforms_are_ours_in_any_scope(scope):
    # MMagic's inferencer leaves its own scope behind.
    with DefaultScope.overwrite_default_scope(scope):
        [flip, pack] = Gradients(pipeline=FLIP).pipeline.transforms
    assert (type(flip), type(pack)) == (RandomFlip, PackImage)


class Unreadable(Gradients):
    """Images 3 and 4 of these cannot be used."""

    def __init__(self, bad: tuple[int, ...] = (3, 4), **settings) -> None:
        def fail(results: dict) -> dict:
            if results['sample_idx'] in bad:
                raise BadImageError(f'image {results["sample_idx"]} is broken.')
            return results

        super().__init__(pipeline=[fail, *FLIP], **settings)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What the log says."""
    seen = []
    monkeypatch.setattr(base, 'print_log', lambda text, *_: seen.append(text))
    return seen


def test_bad_images_are_refused_in_one_sentence():
    with pytest.raises(
        BadImageError, match=r"^image 3 is broken\. .*bad_images='skip'\.$"
    ) as error:
        Unreadable()[3]
    # What PyTorch's loader makes of it, if a worker raised it.
    wrapped = ExceptionWrapper(error._excinfo, 'in DataLoader worker process 0')
    with pytest.raises(BadImageError, match=re.escape(str(error.value))):
        wrapped.reraise()


def test_another_image_comes_instead_of_a_bad_one(dataset, warnings):
    skipping, again = (Unreadable(bad_images='skip', serialize_data=False) for _ in range(2))
    backwards = {key: again[3, (0, key)]['inputs'] for key in reversed(range(30))}
    replacements = set()
    for key in range(30):
        item = skipping[3, (0, key)]
        # Whatever came before.
        assert torch.equal(item['inputs'], backwards[key])
        # The flip is that of the draw.
        flipped = [dataset[i, (0, key)]['inputs'] for i in range(12)]
        [found] = [i for i in range(12) if torch.equal(flipped[i], item['inputs'])]
        replacements.add(found)
        assert torch.equal(skipping[5, (0, key)]['inputs'], dataset[5, (0, key)]['inputs'])
    assert replacements - {3, 4} == replacements
    assert len(replacements) > 5


def test_each_bad_image_is_named_once(warnings):
    skipping = Unreadable(bad_images='skip')
    for key in range(10):
        skipping[3, (0, key)]
        skipping[4, (0, key)]
    expected = [f'image {i} is broken. Another one is taken instead.' for i in (3, 4)]
    assert sorted(warnings) == expected


def test_a_data_set_of_bad_images_ends(warnings):
    with pytest.raises(BadImageError, match='100 images'):
        Unreadable(bad=tuple(range(12)), bad_images='skip')[0]


def test_describes_sizes_classes_and_the_crop(tmp_path):
    for i, size in enumerate([(30, 20), (25, 25), (40, 10), (40, 30), None]):
        path = tmp_path / f'{"ab"[i % 2]}/{i}.png'
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', size).save(path) if size else path.touch()
    pipeline = [dict(type='LoadImage'), dict(type='CenterCrop', size=8)]
    whole = ImageFolder(tmp_path, pipeline=pipeline)
    assert whole.describe() == (
        '5 images in 2 classes; of 5 looked at, 1 cannot be read and sizes run from 40 x 10 to '
        '40 x 30; each is cropped to its central square and resized to 8 x 8.'
    )
    assert 'of 2 looked at, 1 cannot be read and 1 is 30 x 20 pixels;' in whole.describe(2)
