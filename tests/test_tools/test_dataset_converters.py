"""``tools/dataset_converters`` as users type them."""

import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from mmagic_cm.datasets import LSUN, ImageFolder

IMAGENET = 'tools/dataset_converters/imagenet.py'
LSUN_TOOL = 'tools/dataset_converters/lsun.py'


@pytest.fixture
def imagenet(tmp_path) -> Path:
    for i, name in enumerate(['n01/a.JPEG', 'n01/b.JPEG', 'n02/a.JPEG']):
        path = tmp_path / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 30), (80 * i, 0, 0)).save(path)
    return tmp_path / 'train'


@pytest.fixture
def cats(tmp_path) -> Path:
    """LSUN's zip, small."""
    with lmdb.open(str(tmp_path / 'base')) as base, base.begin(write=True) as transaction:
        for i in range(3):
            path = tmp_path / 'x.webp'
            Image.fromarray(np.full((20, 30, 3), 50 * i, dtype=np.uint8)).save(path)
            transaction.put(b'%040x' % i, path.read_bytes())
    (tmp_path / 'lsun').mkdir()
    with zipfile.ZipFile(tmp_path / 'lsun/cat.zip', 'w') as files:
        files.write(tmp_path / 'base/data.mdb', 'cat/data.mdb')
    return tmp_path / 'lsun'


def test_imagenet(run_script, imagenet, tmp_path):
    args = imagenet, '--out', tmp_path / 'out', '--size', 16, '--workers', 1
    code, out, err = run_script(IMAGENET, *args)
    assert code == 0
    assert f'{tmp_path}/out holds 3 images of 16 x 16 pixels; 0 of them were there already.' in out
    warning = (
        f"warning: {imagenet} holds 3 images in 2 classes, and ImageNet's train set has 1,281,167 "
        f'in 1,000.'
    )
    assert warning in err.splitlines()
    dataset = ImageFolder(tmp_path / 'out', pipeline=[dict(type='LoadImage')])
    assert dataset.metainfo['classes'] == ('n01', 'n02')
    assert dataset[2]['img'].shape == (16, 16, 3)

    (imagenet / 'n02/b.JPEG').write_bytes(b'broken')
    code, out, err = run_script(IMAGENET, *args)
    assert code == 0
    assert 'holds 3 images of 16 x 16 pixels; 3 of them were there already.' in out
    left_out = f'1 images were left out, see {tmp_path}/out/bad_images.txt:'
    assert f'{left_out}\n{imagenet}/n02/b.JPEG cannot be read' in out


def test_imagenets_count_is_enough(run_script, imagenet, tmp_path):
    counts = dict(train=(3, 2))
    args = imagenet, '--out', tmp_path / 'out.lmdb', '--workers', 2, '--strict'
    code, out, err = run_script(IMAGENET, *args, COUNTS=counts)
    assert code == 0
    assert 'warning' not in err
    assert 'holds 3 images of 64 x 64 pixels' in out


def test_lsun_is_unpacked_and_converted(run_script, cats, tmp_path):
    # The zip is there, as if fetched before.
    args = '--download', 'cat', '--root', cats
    code, out, err = run_script(LSUN_TOOL, *args)
    assert code == 0, err
    assert f'{cats}/cat.zip is not needed any more.' in out
    warning = f"warning: {cats}/cat holds 3 images, and LSUN's cat has 1,657,266."
    assert warning in err.splitlines()
    assert len(LSUN(cats / 'cat')) == 3

    out = tmp_path / 'cat_8.lmdb'
    code, printed, _ = run_script(
        LSUN_TOOL, cats / 'cat', '--out', out, '--size', 8, '--workers', 1
    )
    assert code == 0
    assert f'{out} holds 3 images of 8 x 8 pixels' in printed
    dataset = LSUN(out, pipeline=[dict(type='LoadImage')])
    assert [int(dataset[i]['img'].mean().round()) for i in range(3)] == [0, 50, 100]
    assert dataset[0]['img'].shape == (8, 8, 3)


def test_lsun_offline(run_script, tmp_path):
    categories = dict(bedroom=('http://127.0.0.1:9/scenes/bedroom_train_lmdb.zip', 'x', 1))
    args = '--download', 'bedroom', '--root', tmp_path
    code, _, err = run_script(LSUN_TOOL, *args, CATEGORIES=categories)
    assert code == 1
    [line] = err.splitlines()
    assert line.startswith('error: http://127.0.0.1:9/scenes/bedroom_train_lmdb.zip')
    assert f'{tmp_path}/bedroom_train_lmdb.zip' in line
