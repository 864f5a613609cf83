"""From uint8 batches to what objectives take."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from mmagic_cm.errors import InputError
from mmagic_cm.io.images import to_unit_range
from mmagic_cm.models import DataPreprocessor

IMAGES = torch.arange(2 * 1 * 8 * 8, dtype=torch.uint8).reshape(2, 1, 8, 8) * 2


@pytest.mark.parametrize('inputs', [IMAGES, list(IMAGES)], ids=['batch', 'list'])
@pytest.mark.parametrize('labels', [torch.tensor([3, 9]), [3, 9], (torch.tensor(3), 9)])
def test_a_batch(inputs, labels):
    found = DataPreprocessor(num_classes=10, channels=1)(dict(inputs=inputs, labels=labels))
    assert torch.equal(found['inputs'], to_unit_range(IMAGES))
    assert found['inputs'].dtype == torch.float32
    assert found['labels'].dtype == torch.int64
    assert found['labels'].tolist() == [3, 9]


@pytest.mark.parametrize('batch', [dict(inputs=IMAGES), dict(inputs=IMAGES, labels=[3, 400])])
def test_an_unconditional_network_gets_no_labels(batch):
    assert DataPreprocessor()(batch)['labels'] is None


def test_the_batch_is_left_as_it_was():
    images = IMAGES.clone()
    batch = dict(inputs=images, labels=[1, 2])
    DataPreprocessor(num_classes=10)(batch)
    assert batch == dict(inputs=images, labels=[1, 2])
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize(
    ('batch', 'match'),
    [
        (dict(inputs=IMAGES.float()), 'torch.float32'),
        (dict(inputs=IMAGES.expand(-1, 3, -1, -1)), '3'),
        (dict(inputs=IMAGES[:, :, 2:]), '6 x 8'),
        (dict(inputs=IMAGES), 'labels'),
        (dict(inputs=IMAGES, labels=[0, 10]), '10'),
        (dict(inputs=IMAGES, labels=[-1, 0]), '-1'),
    ],
)
def test_refuses(batch, match):
    with pytest.raises(InputError, match=match):
        DataPreprocessor(num_classes=10, channels=1, image_size=8)(batch)


def test_numbers_of_images_are_enough_to_draw():
    batch = dict(indices=torch.arange(2), labels=[3, 9])
    found = DataPreprocessor(num_classes=10, channels=1, image_size=8)(batch)
    assert found.keys() == {'indices', 'labels'}
    assert found['labels'].tolist() == [3, 9]
    for data, training in ((batch, True), (dict(labels=[3]), False)):
        with pytest.raises(InputError, match='inputs'):
            DataPreprocessor(num_classes=10)(data, training)


@pytest.mark.parametrize('key', ['gt', 'img'])
def test_a_batch_of_mmagic(key):
    """Its PackInputs gives BGR, and ``inputs`` or ``gt_img`` by the name in the pipeline."""
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).reshape(2, 3, 8, 8)
    samples = []
    for image, label in zip(images, (3, 9), strict=True):
        sample = BaseDataElement(metainfo={f'{key}_channel_order': 'bgr', 'sample_idx': 2 * label})
        sample.gt_label = BaseDataElement(label=torch.tensor([label]))
        samples.append(sample)
        if key == 'gt':
            sample.gt_img = image
    batch = dict(inputs={} if key == 'gt' else list(images), data_samples=samples)
    found = DataPreprocessor(num_classes=10)(batch)
    assert torch.equal(found['inputs'], to_unit_range(images.flip(1)))
    assert found['labels'].tolist() == [3, 9]
    assert found['indices'] == [6, 18]
    assert DataPreprocessor(num_classes=10)(batch, training=True).keys() == {'inputs', 'labels'}


def test_images_that_are_asked_for_by_their_count_are_numbered_on(model):
    batch = dict(inputs=dict(num_batches=3, sample_model='ema', sample_kwargs={}))
    first, second = model.test_step(batch), model.test_step(batch)
    drawn = torch.stack([sample['fake_img'] for sample in first + second])
    assert len(drawn.unique(dim=0)) == 6
    model.eval()  # a new test
    assert all(
        torch.equal(a['fake_img'], b) for a, b in zip(model.test_step(batch), drawn, strict=False)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_one_byte_a_pixel_crosses_to_the_device(build_model):
    preprocessor = build_model().cuda().data_preprocessor
    found = preprocessor(dict(inputs=IMAGES, labels=[3, 9]))
    assert found['inputs'].is_cuda
    assert torch.equal(found['inputs'].cpu(), to_unit_range(IMAGES))
