"""Pictures in an LMDB, as LSUN's."""

import os
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from mmagic_cm.datasets import LSUN, BadImageError, LMDBImages
from mmagic_cm.datasets import lsun as module
from mmagic_cm.datasets.conversion import Source, convert
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DATASETS

PAGE = 4096


@pytest.fixture
def count_listing(monkeypatch):
    """How often keys were listed."""
    listed = []
    monkeypatch.setattr(module, 'tqdm', lambda keys, *_, **__: listed.append(1) or keys)
    return listed


def test_reads_jpeg_and_webp(database, picture, pipeline):
    root = database(10)
    dataset = LSUN(root, pipeline=[dict(type='LoadImage')])
    assert len(dataset) == 10
    assert 'classes' not in dataset.metainfo
    keys = [f'{i * 7919 % 104729:040x}' for i in range(10)]
    for index, key in enumerate(sorted(keys)):
        item = dataset[index]
        assert 'gt_label' not in item
        assert item['img_name'] == f'{root}: {key}'
        expected = picture(keys.index(key)).astype(int)
        assert np.abs(item['img'] - expected).mean() < 40  # compressed noise
    assert LSUN(root, pipeline=pipeline)[0].keys() == {'inputs', 'indices'}


def test_keys_are_listed_once_and_mapped(database, count_listing):
    root = database()
    first = LSUN(root)
    assert (root / 'keys.npy').is_file()
    second = LSUN(root)
    assert len(count_listing) == 1
    assert isinstance(second.data_list.keys, np.memmap)
    assert first.get_data_info(4) == second.get_data_info(4)
    assert {path.name for path in root.iterdir()} == {'data.mdb', 'lock.mdb', 'keys.npy'}


@pytest.mark.parametrize('stale', [b'', b'no array', 'fewer', 'other'])
def test_a_stale_list_is_made_anew(database, count_listing, stale):
    root = database()
    keys = np.array(module.list_keys(root))
    if isinstance(stale, bytes):
        (root / 'keys.npy').write_bytes(stale)
    else:
        np.save(root / 'keys.npy', keys[:-1] if stale == 'fewer' else [*keys[:-1], b'z' * 40])
    assert np.array_equal(module.list_keys(root), keys)
    assert len(count_listing) == 2
    assert np.array_equal(np.load(root / 'keys.npy'), keys)


def test_a_folder_that_cannot_be_written_is_no_harm(database, monkeypatch, capsys):
    root = database()

    def refuse(*args, **settings):
        raise PermissionError

    monkeypatch.setattr(np, 'save', refuse)
    assert len(LSUN(root)) == 10
    assert not (root / 'keys.npy').exists()
    assert capsys.readouterr().err == ''


def test_draws_are_exact_after_forks(database, pipeline, assert_exact):
    dataset = LSUN(database(), pipeline=pipeline)
    # The parent has it open before and after the workers are forked.
    dataset[0]
    assert_exact(dataset)
    dataset[0]


def test_a_fork_opens_its_own(database):
    root = database()
    here = module.open_lmdb(root)
    receive, send = os.pipe()
    if os.fork() == 0:
        other = module.open_lmdb(root)
        with other.begin() as transaction:
            os.write(send, b'%d' % (other is not here and transaction.stat()['entries']))
        os._exit(0)
    os.wait()
    assert os.read(receive, 9) == b'10'
    assert module.open_lmdb(root) is here
    with here.begin() as transaction:
        assert transaction.stat()['entries'] == 10


def test_survives_pickling(database, pipeline):
    dataset = LSUN(database(), pipeline=pipeline)
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[2]['inputs'], dataset[2]['inputs'])


def test_classes_in_the_keys(database, encode, picture):
    items = {f'{name}/{i}': encode(picture(i)) for i, name in enumerate(['dog', 'cat', 'dog'])}
    root = database(items=items)
    dataset = DATASETS.build(dict(type='LMDBImages', data_root=str(root)))
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert [dataset.get_data_info(i)['gt_label'] for i in range(3)] == [0, 1, 1]
    assert 'gt_label' not in LSUN(root).get_data_info(0)


@pytest.mark.parametrize(
    ('indices', 'expected'), [(2, [0, 1]), (-2, [1, 2]), ([2, 0], [2, 0]), (None, [0, 1, 2])]
)
def test_subsets(database, encode, picture, indices, expected):
    items = {f'{name}/1': encode(picture()) for name in 'abc'}
    root = database(items=items)
    subset = LMDBImages(root, indices=indices)
    assert [subset.get_data_info(i)['gt_label'] for i in range(len(subset))] == expected
    if indices is not None:
        later = LMDBImages(root).get_subset(indices)
        assert [later.get_data_info(i)['gt_label'] for i in range(len(later))] == expected


def test_broken_pictures_are_named_by_key(database, encode, picture, pipeline):
    root = database(items=dict(a=encode(picture()), b=b'broken'))
    with pytest.raises(InputError, match='bedroom_train_lmdb: b'):
        LSUN(root, pipeline=pipeline)[1]
    skipping = LSUN(root, pipeline=pipeline, bad_images='skip')
    assert torch.equal(
        skipping[1, 0]['inputs'].sort().values, skipping[0, 0]['inputs'].sort().values
    )


def test_other_folders_are_named(database, tmp_path):
    with pytest.raises(InputError, match='data_root'):
        LSUN()
    with pytest.raises(InputError, match=r'data\.mdb'):
        LSUN(tmp_path)
    (tmp_path / 'data.mdb').write_bytes(b'x' * 9999)
    with pytest.raises(lmdb.Error) as caught:
        LSUN(tmp_path)
    assert caught.value.__notes__ == [f'while opening the LMDB in {tmp_path}']
    root = database(items={})
    with pytest.raises(InputError, match=str(root)):
        LSUN(root)
    with pytest.raises(InputError, match='ann_file'):
        LSUN(root, ann_file='x.txt')


@pytest.mark.parametrize('num_bytes', [9000, 16384, -4096, -1])
def test_a_data_base_that_is_cut_short_is_refused(database, tmp_path, num_bytes):
    root = database()
    content = (root / 'data.mdb').read_bytes()
    (root / 'data.mdb').write_bytes(content[:num_bytes])
    with pytest.raises(InputError, match=r'data\.mdb is cut short: it has'):
        LSUN(root)
    with pytest.raises(InputError, match=r'data\.mdb is cut short: it has'):
        convert(Source(str(database(root='other'))), _claimed(root), 8)


def _claimed(root: Path) -> Path:
    """A data base as one that a conversion has begun."""
    (root / 'conversion.json').write_text('{"size": 8, "format": "png"}')
    return root.rename(root.with_name('out.lmdb'))


def test_damaged_pages_are_named(database, pipeline):
    root = database(200)
    dataset = LSUN(root, pipeline=pipeline)
    module.close_lmdb(root)
    content = bytearray((root / 'data.mdb').read_bytes())
    for start in range(2 * PAGE, len(content), PAGE):
        if content[start + 10] == 2:  # a leaf of the tree
            content[start : start + PAGE] = bytes(PAGE)
    (root / 'data.mdb').write_bytes(content)
    with pytest.raises(BadImageError, match=r'bedroom_train_lmdb: 0{40}'):
        dataset[0]
    (root / 'keys.npy').unlink()
    with pytest.raises(lmdb.CorruptedError) as caught:
        module.list_keys(root)
    assert caught.value.__notes__ == [f'while listing the LMDB in {root}']


def test_keys_are_texts(tmp_path):
    with lmdb.open(str(tmp_path)) as base, base.begin(write=True) as transaction:
        transaction.put(b'a\xff', b'x')
    with pytest.raises(InputError, match=r"b'a\\xff'"):
        LSUN(tmp_path)
