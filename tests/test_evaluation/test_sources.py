"""Sets of pictures: an npz, a folder, an LMDB, a data set of a config."""

import io
import os

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.datasets.transforms import center_crop
from mmagic_cm.errors import InputError
from mmagic_cm.evaluation.sources import ADM_CROP, check_source, open_images
from mmagic_cm.io.images import save_images, save_npz

COLOUR = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
GRAY = COLOUR[..., :1]


def read(source, batch_size=3) -> np.ndarray:
    """All pictures as uint8 (N, H, W, C)."""
    batches = [*source.batches(batch_size)]
    assert all(batch.dtype == torch.uint8 for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    return torch.cat(batches).permute(0, 2, 3, 1).numpy()


def save_lmdb(images: np.ndarray, path) -> None:
    environment = lmdb.open(str(path), map_size=2**22)
    with environment.begin(write=True) as transaction:
        for i, image in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(image).save(file, 'png')
            transaction.put(f'{i:03d}'.encode(), file.getvalue())
    environment.close()


@pytest.mark.parametrize('images', [COLOUR, GRAY], ids=['colour', 'gray'])
@pytest.mark.parametrize('kind', ['npz', 'compressed', 'folder', 'config'])
def test_pictures_come_as_they_are_stored(images, kind, tmp_path):
    path = tmp_path / 'set.npz'
    if kind == 'npz':
        save_npz(images, np.arange(7), path)
    elif kind == 'compressed':
        np.savez_compressed(path, images)
    else:
        path = tmp_path / 'set'
        save_images(images, path)
    source = open_images(str(path))
    if kind == 'config':
        source = open_images(dict(dataset=dict(type='ImageFolder', data_root=str(path))))
    assert (len(source), source.size) == (7, (6, 5))
    assert np.array_equal(read(source), images)
    assert source.crop == 'none: 5 x 6 as stored'


@pytest.mark.parametrize('kind', ['folder', 'lmdb'])
def test_folders_and_data_bases_are_cropped_as_adm_does(kind, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (3, 21, 33, 3), dtype=np.uint8)
    (save_images if kind == 'folder' else save_lmdb)(images, tmp_path / 'set')
    source = open_images(tmp_path / 'set', crop=8)
    expected = np.stack([np.asarray(center_crop(Image.fromarray(i), 8)) for i in images])
    assert np.array_equal(read(source), expected)
    assert source.crop == ADM_CROP.format(8)
    assert source.size == (8, 8)


def test_a_data_set_of_a_config_comes_without_its_flips():
    pipeline = [dict(type='RandomFlip', prob=1.0), dict(type='PackImage')]
    for settings in (dict(pipeline=pipeline), {}):
        source = open_images(dict(dataset=dict(type='DigitsDataset', split='test', **settings)))
        assert np.array_equal(read(source, 100), load_split('test')[0])
    assert source.name == 'DigitsDataset (test)'


def test_the_crop_of_a_config_is_that_of_its_pipeline(tmp_path):
    save_images(COLOUR, tmp_path)
    pipeline = [dict(type='LoadImage'), dict(type='CenterCrop', size=4), dict(type='PackImage')]
    dataset = dict(type='ImageFolder', data_root=str(tmp_path), pipeline=pipeline)
    source = open_images(dict(dataset=dataset), crop=3)
    assert (source.size, source.crop) == ((4, 4), ADM_CROP.format(4))


def test_the_digest_changes_with_the_pictures(tmp_path):
    save_npz(COLOUR, None, tmp_path / 'a.npz')
    save_npz(COLOUR, None, tmp_path / 'b.npz')
    save_npz(COLOUR[::-1], None, tmp_path / 'c.npz')
    a, b, c = (open_images(tmp_path / f'{name}.npz').digest() for name in 'abc')
    assert a == b != c
    folder = tmp_path / 'folder'
    save_images(COLOUR, folder)
    before = open_images(folder).digest()
    assert open_images(folder).digest() == before
    os.utime(folder / '000000.png', (1, 1))
    touched = open_images(folder).digest()
    (folder / '000006.png').unlink()
    assert len({before, touched, open_images(folder).digest()}) == 3
    assert open_images(folder, crop=4).digest() != open_images(folder).digest()


@pytest.mark.parametrize(
    ('arrays', 'name'),
    [
        (dict(mu=np.zeros(3)), 'arr_0'),
        (dict(arr_0=COLOUR[..., 0]), r'uint8 \(7, 6, 5\)'),
        (dict(arr_0=COLOUR.astype(np.float32)), 'float32'),
        (dict(arr_0=COLOUR[:0]), r'\(0, 6, 5, 3\)'),
        (dict(arr_0=np.zeros((1, 1025, 1024, 1), np.uint8)), '1,048,576 pixels'),
        (dict(arr_0=np.array([{}], dtype=object)), 'object'),
    ],
)
def test_damaged_and_wrong_files_are_refused(arrays, name, tmp_path):
    path = tmp_path / 'set.npz'
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=name):
        open_images(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r'set\.npz'):
        open_images(path)


def test_mixed_sizes_an_empty_folder_and_missing_files(tmp_path):
    folder = tmp_path / 'folder'
    save_images(COLOUR, folder)
    Image.fromarray(COLOUR[0, :4]).save(folder / '000003.png')
    for batch_size in (2, 7):
        with pytest.raises(InputError, match=r'5 x 6 and \(number 3\) 5 x 4'):
            read(open_images(folder), batch_size)
    assert len(read(open_images(folder, crop=4))) == 7
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty'):
        open_images(tmp_path / 'empty')
    (tmp_path / 'text.txt').write_text('')
    for name, said in (
        ('none', 'none'),
        ('text.txt', r'text\.txt'),
        ('VIRTUAL_lsun_cat256.npz', r'https://.*/lsun/cat/VIRTUAL_lsun_cat256\.npz'),
    ):
        with pytest.raises(InputError, match=said):
            check_source(tmp_path / name)
    with pytest.raises(InputError, match='DigitsDataset'):
        open_images(dict(type='DigitsDataset'))


def test_an_npz_is_not_cropped(tmp_path):
    save_npz(COLOUR[:, :5], None, tmp_path / 'a.npz')
    assert open_images(tmp_path / 'a.npz', crop=5).size == (5, 5)
    with pytest.raises(InputError, match=r'5 x 5 .* 4 x 4'):
        open_images(tmp_path / 'a.npz', crop=4)
