"""Resizing a data set once and for all."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.datasets import LSUN, CenterCrop, ImageFolder, LMDBImages, LoadImage, conversion
from mmagic_cm.datasets.conversion import Source, convert
from mmagic_cm.errors import InputError

SIZE = 6
PATHS = ['cat/1.jpg', 'cat/2.png', 'dog/1.webp', 'dog/more/3.png', 'ant/0.bmp']


def images(dataset) -> list[tuple[np.ndarray, int | None]]:
    items = [LoadImage()(dataset.get_data_info(i)) for i in range(len(dataset))]
    return [(item['img'], item.get('gt_label')) for item in items]


def cropped(dataset) -> list[tuple[np.ndarray, int | None]]:
    crop = CenterCrop(SIZE, enlarge=True)
    return [(crop(dict(img=image))['img'], label) for image, label in images(dataset)]


def assert_same(one: list, other: list) -> None:
    assert len(one) == len(other) > 0
    for (image, label), (expected, expected_label) in zip(one, other, strict=True):
        assert label == expected_label
        assert np.array_equal(image, expected)


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('kind', ['png', 'webp'])
@pytest.mark.parametrize(('out', 'dataset'), [('out', ImageFolder), ('out.lmdb', LMDBImages)])
def test_a_folder_keeps_its_classes_and_pixels(folder, tmp_path, out, dataset, kind, workers):
    root, out = folder(*PATHS), tmp_path / out
    report = convert(Source(str(root)), out, SIZE, kind, workers)
    assert (report.present, report.written, report.bad) == (0, 5, [])
    assert_same(images(dataset(out)), cropped(ImageFolder(root)))
    assert dataset(out).metainfo == ImageFolder(root).metainfo
    if dataset is ImageFolder:
        assert (out / f'dog/more/3.{kind}').is_file()


@pytest.mark.parametrize(('out', 'dataset'), [('out', ImageFolder), ('out.lmdb', LSUN)])
def test_an_lmdb_keeps_its_keys_and_pixels(database, tmp_path, out, dataset):
    source = database(12)
    convert(Source(str(source)), tmp_path / out, SIZE)
    assert_same(images(dataset(tmp_path / out)), cropped(LSUN(source)))
    if dataset is LSUN:
        keys = [LSUN(path).data_list.keys.tolist() for path in (source, tmp_path / out)]
        assert keys[0] == keys[1]


def test_sizes_and_jpegs(folder, tmp_path):
    root = folder(*PATHS)
    convert(Source(str(root)), tmp_path / 'large', 30)  # than they are
    with Image.open(tmp_path / 'large/cat/2.png') as image:
        assert image.size == (30, 30)
    convert(Source(str(root)), tmp_path / 'out', SIZE, 'jpg')
    image, expected = images(ImageFolder(tmp_path / 'out'))[1], cropped(ImageFolder(root))[1]
    assert np.abs(image[0].astype(int) - expected[0]).mean() < 40
    assert (tmp_path / 'out/cat/1.jpg').read_bytes()[:2] == b'\xff\xd8'


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('out', ['out', 'out.lmdb'])
def test_broken_pictures_are_left_out_and_named(folder, tmp_path, out, workers):
    root = folder(*PATHS, **{'2': b'broken'})
    report = convert(Source(str(root)), tmp_path / out, SIZE, workers=workers)
    assert report.written == 4
    [sentence] = report.bad
    assert sentence.startswith(f'{root}/cat/2.png ')
    assert (tmp_path / out / 'bad_images.txt').read_text() == f'{sentence}\n'
    # Mended, it is all that is left to do.
    folder('a', 'cat/2.png')
    again = convert(Source(str(root)), tmp_path / out, SIZE, workers=workers)
    assert (again.present, again.written, again.bad) == (4, 1, [])
    assert (tmp_path / out / 'bad_images.txt').read_text() == ''


def test_a_source_of_which_nothing_can_be_read_is_refused(folder, tmp_path):
    root = folder('1.png', '2.png', **{'1': b'broken', '2': b'broken'})
    with pytest.raises(InputError, match=r'bad_images.txt: .*/1\.png'):
        convert(Source(str(root)), tmp_path / 'out', SIZE)


def files(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob('*.png')}


def alive(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state != 'Z'


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize(('out', 'dataset'), [('out', ImageFolder), ('out.lmdb', LMDBImages)])
def test_a_killed_conversion_goes_on(folder, tmp_path, monkeypatch, out, dataset, workers):
    root, out = folder(*(f'{i:02}.png' for i in range(40))), tmp_path / out
    monkeypatch.setattr(conversion, 'WINDOW', 4)
    receive, send = os.pipe()
    parent = os.fork()
    if parent == 0:
        crop = conversion.center_crop

        def slow(image, size):
            os.write(send, os.getpid().to_bytes(4, 'little'))
            time.sleep(0.01)
            return crop(image, size)

        conversion.center_crop = slow
        convert(Source(str(root)), out, SIZE, workers=workers)
        os._exit(0)
    pids = {int.from_bytes(os.read(receive, 4), 'little') for _ in range(20)}
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 5
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, 'workers outlive the conversion'
        time.sleep(0.05)

    before = files(out)
    report = convert(Source(str(root)), out, SIZE, workers=workers)
    assert 8 <= report.present < 40
    assert report.present + report.written == 40
    # What is there is not done again.
    assert before.items() <= files(out).items()
    assert not list(out.rglob('*.unfinished'))
    assert_same(images(dataset(out)), cropped(ImageFolder(root)))


@pytest.mark.parametrize('out', ['out', 'out.lmdb'])
def test_two_conversions_do_not_share_a_folder(folder, tmp_path, monkeypatch, out):
    source, crop = Source(str(folder('a.png'))), conversion.center_crop

    def crop_beside_another(*args):
        with pytest.raises(InputError, match=rf'{out} .*process '):
            convert(source, tmp_path / out, SIZE)
        return crop(*args)

    monkeypatch.setattr(conversion, 'center_crop', crop_beside_another)
    assert convert(source, tmp_path / out, SIZE).written == 1
    assert {path.name for path in tmp_path.iterdir()} == {'pictures', out}


def test_an_lmdb_grows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, 'MAP_SIZE', 2**15)
    root = folder(*(f'{i}.png' for i in range(10)))
    convert(Source(str(root)), tmp_path / 'out.lmdb', 64)
    assert len(LMDBImages(tmp_path / 'out.lmdb')) == 10
    assert (tmp_path / 'out.lmdb/data.mdb').stat().st_size > 2**15


def test_a_list_of_keys_is_not_kept_too_long(folder, tmp_path):
    out = tmp_path / 'out.lmdb'
    convert(Source(str(folder('a.png'))), out, SIZE)
    assert len(LMDBImages(out)) == 1
    convert(Source(str(folder('a.png', 'b.png'))), out, SIZE)
    assert len(LMDBImages(out)) == 2


def test_a_full_disk_is_named(folder, tmp_path, monkeypatch):
    def fail(path, data):
        raise OSError(28, 'No space left on device')

    source = Source(str(folder('a.png')))
    monkeypatch.setattr(conversion, '_write', fail)
    with pytest.raises(OSError, match='No space left') as caught:
        convert(source, tmp_path / 'out', SIZE)
    assert caught.value.__notes__ == [f'while writing {tmp_path}/out']


@pytest.mark.parametrize(
    ('paths', 'settings', 'name'),
    [
        (['a.png'], dict(size=0), 'size'),
        (['a.png', 'a.jpg'], {}, 'a.jpg and a.png'),
        (['a.png'], dict(out='pictures'), 'pictures'),
        (['a.png'], dict(out='pictures/small'), 'pictures/small'),
        (['n01.tar'], {}, 'n01.tar'),
        (['a.png'], dict(out='made'), "made .*'size': 6"),
    ],
)
def test_mistakes_are_named(folder, tmp_path, paths, settings, name):
    convert(Source(str(folder('x.png', root='first'))), tmp_path / 'made', SIZE)
    root = folder(*paths)
    settings = dict(out='out', size=7) | settings
    settings['out'] = tmp_path / settings['out']
    with pytest.raises(InputError, match=name):
        convert(Source(str(root)), **settings)


def test_keys_that_lead_out_of_the_folder_are_refused(database, tmp_path, encode, picture):
    source = Source(str(database(items={'../x': encode(picture())})))
    with pytest.raises(InputError, match=r'\.\./x'):
        convert(source, tmp_path / 'out', SIZE)
    assert not (tmp_path / 'x.png').exists()
