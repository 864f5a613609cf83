"""Any folder of pictures, its classes, and ImageNet."""

import errno
import os

import numpy as np
import pytest
import torch

from mmagic_cm.datasets import ImageFolder, ImageNet, image_folder
from mmagic_cm.datasets.image_folder import list_images
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DATASETS


def names(dataset) -> list[str]:
    root = dataset.data_prefix['img_path']
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [os.path.relpath(info['img_path'], root) for info in infos]


def labels(dataset) -> list[int]:
    return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


def test_all_pictures_are_found_in_the_order_of_their_paths(folder):
    kinds = ['b.PNG', 'a.jpg', 'c/d/e.JPEG', 'c/a.gif', 'z.webp', 'y.bmp']
    root = folder(*kinds, 'notes.txt', '.hidden.png', '.git/x.png')
    (root / 'empty').mkdir()
    assert list_images(root) == sorted(kinds)
    dataset = ImageFolder(root, pipeline=[dict(type='LoadImage')])
    assert names(dataset) == sorted(kinds)
    assert all(dataset[i]['img'].shape == (9, 12, 3) for i in range(len(dataset)))
    assert 'classes' not in dataset.metainfo


def test_links_to_folders_are_followed_but_not_round_in_circles(folder, tmp_path):
    root = folder('a.png')
    folder('b.png', root='elsewhere')
    (root / 'linked').symlink_to(tmp_path / 'elsewhere')
    (root / 'circle').symlink_to(root)
    assert list_images(root) == ['a.png', 'linked/b.png']


def test_a_folder_that_cannot_be_read_is_not_left_out(folder, monkeypatch):
    root, scandir = folder('ant/1.png', 'cat/2.png'), os.scandir

    def refuse(path):
        if str(path).endswith('cat'):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(PermissionError, match='cat'):
        list_images(root)


@pytest.mark.parametrize('setting', ['auto', 'folder'])
def test_classes_are_the_first_sub_folders(folder, setting, pipeline):
    root = folder('dog/1.png', 'cat/2.png', 'cat/more/3.png', 'ant/4.png')
    dataset = ImageFolder(root, labels=setting, pipeline=pipeline)
    assert dataset.metainfo['classes'] == ('ant', 'cat', 'dog')
    assert names(dataset) == ['ant/4.png', 'cat/2.png', 'cat/more/3.png', 'dog/1.png']
    assert labels(dataset) == [0, 1, 1, 2]
    assert dataset[3]['labels'] == 2


@pytest.mark.parametrize(
    ('paths', 'setting'),
    [
        (('1.png', 'cat/2.png'), 'auto'),
        (('all/1.png', 'all/2.png'), 'auto'),
        (('a/1.png', 'b/2.png'), None),
    ],
)
def test_other_folders_have_no_classes(folder, paths, setting):
    dataset = ImageFolder(folder(*paths), labels=setting)
    assert 'classes' not in dataset.metainfo
    assert 'gt_label' not in dataset.get_data_info(0)


def test_flat_names_as_in_the_papers_code(folder):
    dataset = ImageFolder(folder('dog_1.png', 'cat_1_b.png', 'x_y/cat_2.png'), labels='name')
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert labels(dataset) == [0, 1, 0]


def test_order_of_the_classes_can_be_given(folder):
    metainfo = dict(classes=('dog', 'unseen', 'cat'))
    dataset = ImageFolder(folder('cat/1.png', 'dog/2.png'), metainfo=metainfo)
    assert dataset.metainfo['classes'] == metainfo['classes']
    assert labels(dataset) == [2, 0]


def test_annotations_as_imagenets(folder):
    root = folder('val/b c.JPEG', 'val/a.JPEG', 'val/unused.JPEG')
    (root / 'val.txt').write_text('b c.JPEG 4\na.JPEG\t0\n\n')
    settings = dict(ann_file='val.txt', data_prefix=dict(img_path='val'))
    dataset = ImageFolder(root, pipeline=[dict(type='LoadImage')], **settings)
    assert names(dataset) == ['b c.JPEG', 'a.JPEG']
    assert labels(dataset) == [4, 0]
    assert len(dataset.metainfo['classes']) == 5
    assert dataset[0]['img'].dtype == np.uint8
    assert 'classes' not in ImageFolder(root, labels=None, **settings).metainfo


def test_annotations_without_labels(folder):
    root = folder('a b.png', 'c.png')
    (root / 'list.txt').write_text('c.png\na b.png\n')
    dataset = ImageFolder(root, ann_file='list.txt')
    assert names(dataset) == ['c.png', 'a b.png']
    assert 'gt_label' not in dataset.get_data_info(0)


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('a.png 0\na.png -1\n', 2),
        ('a.png 0\n\na.png 1\n', 2),
        ('17\n', 1),
        ('a.png 0\na.png\n', 2),
        ('a.png 0\na.png 1000000000\n', 2),
        ('a.png 0\na.png 3\n', 2),
    ],
)
def test_wrong_annotations_are_named(folder, text, line):
    root = folder('a.png')
    (root / 'list.txt').write_text(text)
    with pytest.raises(InputError, match=rf'list\.txt, line {line}: '):
        ImageFolder(root, ann_file='list.txt', metainfo=dict(classes=('x', 'y', 'z')))
    (root / 'list.txt').write_text('')
    with pytest.raises(InputError, match=r'list\.txt'):
        ImageFolder(root, ann_file='list.txt')


@pytest.mark.parametrize(
    ('paths', 'settings', 'name'),
    [
        (['a.png'], dict(data_root=None), 'data_root'),
        (['a.png'], dict(data_root='/nowhere'), '/nowhere'),
        (['a.txt'], {}, 'pictures'),
        (['n01.tar', 'n02.tar'], {}, 'n01.tar'),
        (['data.mdb'], {}, 'LMDBImages'),
        (['a.png', 'b/c.png', 'd/e.png'], {}, "'auto': a.png"),
        (['a_b.png', 'c.png'], dict(labels='name'), "'name': c.png"),
        (['a.png'], dict(labels='folders'), "'folders'"),
        (['a.png'], dict(bad_images='ignore'), "'ignore'"),
        (['cat/a.png', 'dgo/b.png'], dict(metainfo=dict(classes=('cat', 'dog'))), "'dgo'.*'dog'"),
    ],
)
def test_wrong_folders_are_named(folder, paths, settings, name):
    settings = dict(data_root=folder(*paths)) | settings
    with pytest.raises(InputError, match=name):
        ImageFolder(**settings)


def test_imagenet_has_a_thousand_classes(folder, monkeypatch):
    said = []
    monkeypatch.setattr(image_folder, 'print_log', lambda text, *_: said.append(text))
    root = folder('n01440764/a.JPEG', 'n01443537/b.JPEG')
    assert labels(ImageNet(data_root=root)) == [0, 1]
    assert 'has 2 classes, and ImageNet has 1,000' in said.pop()
    for i in range(998):
        (root / f'n1{i:07}').mkdir()
        (root / f'n1{i:07}/x.JPEG').touch()
    dataset = ImageNet(data_root=root)
    assert labels(dataset) == [*range(1000)]
    assert not said
    assert dataset.metainfo['classes'][:2] == ('n01440764', 'n01443537')
    assert len(ImageNet(data_root=root, labels=None)) == 1000


def test_draws_are_exact(folder, pipeline, assert_exact):
    root = folder(*(f'{"ab"[i % 2]}/{i}.png' for i in range(10)))
    config = dict(type='ImageFolder', data_root=str(root), pipeline=pipeline)
    assert_exact(DATASETS.build(config))


def test_replacements_depend_on_the_draw_alone(folder, pipeline, assert_exact, batches):
    paths = [f'{i}.png' for i in range(12)]
    root = folder(*paths, **{'3': b'broken', '7': b''})
    bad = ImageFolder(root, pipeline=pipeline, bad_images='skip')
    assert_exact(bad)
    # All other draws are what they were.
    good = ImageFolder(folder(*paths, root='good'), pipeline=pipeline)
    same = [
        torch.equal(a, b)
        for one, other in zip(batches(good, 3), batches(bad, 3), strict=True)
        for a, b in zip(one['inputs'], other['inputs'], strict=True)
    ]
    assert same.count(False) == 2
