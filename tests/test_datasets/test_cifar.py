"""CIFAR-10 from its binary version."""

import numpy as np
import pytest

from mmagic_cm.datasets import CIFAR10, cifar
from mmagic_cm.errors import InputError

NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
RECORDS = 4


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Files of 4 records instead of 10,000."""
    monkeypatch.setattr(cifar, 'RECORDS', RECORDS)
    (tmp_path / 'batches.meta.txt').write_text('\n'.join(NAMES) + '\n\n')
    for number, name in enumerate([*cifar.FILES['train'], *cifar.FILES['test']]):
        records = np.random.default_rng(number).integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
        records[:, 0] = (np.arange(RECORDS) + number) % 10
        records.tofile(tmp_path / name)
    return tmp_path


def test_splits(root):
    train, test = CIFAR10(root), CIFAR10(root, split='test')
    assert (len(train), len(test)) == (5 * RECORDS, RECORDS)
    assert train.metainfo['classes'] == tuple(NAMES)
    labels = [train.get_data_info(i)['gt_label'] for i in range(8)]
    assert labels == [0, 1, 2, 3, 1, 2, 3, 4]


def test_pixels_are_planes_of_red_green_and_blue(root):
    record = np.fromfile(root / 'data_batch_2.bin', dtype=np.uint8)[3073 : 2 * 3073]
    image = CIFAR10(root).get_data_info(RECORDS + 1)['img']
    assert image.shape == (32, 32, 3)
    for y, x, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 30, 1), (5, 7, 2)]:
        assert image[y, x, channel] == record[1 + channel * 1024 + y * 32 + x]


def test_draws_are_exact(root, assert_exact):
    assert_exact(CIFAR10(root, pipeline=[dict(type='RandomFlip'), dict(type='PackImage')]))


@pytest.mark.parametrize(
    ('name', 'data'),
    [
        ('batches.meta.txt', None),
        ('batches.meta.txt', b'cat\ndog\n'),
        ('data_batch_3.bin', bytes(3072)),
        ('data_batch_3.bin', bytes([10] * 4 * 3073)),
    ],
)
def test_wrong_files_are_named(root, name, data):
    (root / name).unlink() if data is None else (root / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        CIFAR10(root)
