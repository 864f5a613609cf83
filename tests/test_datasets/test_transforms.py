"""Transforms of one image."""

import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.datasets import BadImageError, CenterCrop, LoadImage, PackImage, RandomFlip
from mmagic_cm.errors import InputError

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def flip(prob: float, seed: int = 0) -> np.ndarray:
    results = dict(img=IMAGE.copy(), rng=random.Random(seed))
    return RandomFlip(prob)(results)['img']


@pytest.mark.parametrize(('prob', 'expected'), [(0.0, IMAGE), (1.0, IMAGE[:, ::-1])])
def test_flip_mirrors_left_to_right(prob, expected):
    assert all(np.array_equal(flip(prob, seed), expected) for seed in range(20))


@pytest.mark.parametrize('prob', [0.5, 0.2])
def test_flip_as_often_as_asked(prob):
    flips = sum(not np.array_equal(flip(prob, seed), IMAGE) for seed in range(1000))
    assert flips / 1000 == pytest.approx(prob, abs=0.05)


def test_flip_draws_from_its_generator_alone():
    for seed in range(20):
        images = []
        for other in 0, 1:
            random.seed(other)
            np.random.seed(other)  # noqa: NPY002
            torch.manual_seed(other)
            images.append(flip(0.5, seed))
        assert np.array_equal(*images)


@pytest.mark.parametrize('image', [IMAGE, IMAGE[:, ::-1]])
def test_pack_puts_channels_first(image):
    packed = PackImage()(dict(img=image, gt_label=7))
    assert packed.keys() == {'inputs', 'labels'}
    assert packed['labels'] == 7
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].is_contiguous()
    assert np.array_equal(packed['inputs'].numpy(), image.transpose(2, 0, 1))
    assert PackImage()(dict(img=IMAGE)).keys() == {'inputs'}


# --- pictures from files ---


def save(array: np.ndarray, path: Path, mode: str = 'RGB', **settings) -> dict:
    Image.fromarray(array).convert(mode).save(path, **settings)
    return dict(img_path=str(path))


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA', '1', 'P', 'CMYK'])
def test_every_kind_of_picture_becomes_rgb(tmp_path, picture, mode):
    pixels = np.where(picture(height=6) > 90, 255, 0).astype(np.uint8)
    name = 'x.tiff' if mode == 'CMYK' else 'x.png'
    image = LoadImage()(save(pixels, tmp_path / name, mode))['img']
    assert image.shape == (6, 12, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    if mode in {'RGB', 'RGBA', 'CMYK'}:
        assert np.array_equal(image, pixels)
    elif mode != 'P':
        assert np.array_equal(image[..., 0], image[..., 1])


def test_bytes_are_decoded_and_dropped(picture, encode):
    results = LoadImage()(dict(img_bytes=encode(picture()), img_name='x'))
    assert np.array_equal(results['img'], picture())
    assert 'img_bytes' not in results


def test_gray_by_setting(tmp_path, picture):
    results = LoadImage(color='gray')(save(picture(), tmp_path / 'x.png'))
    expected = picture() @ [0.299, 0.587, 0.114]
    assert np.abs(results['img'][..., 0] - expected).max() <= 1
    assert results['img'].shape == (9, 12, 1)
    with pytest.raises(InputError, match="'grey'"):
        LoadImage(color='grey')


@pytest.mark.parametrize('kind', ['uint16', 'int32'])
def test_sixteen_bits_are_scaled_down(tmp_path, kind):
    Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=kind)).save(tmp_path / 'x.tiff')
    image = LoadImage()(dict(img_path=tmp_path / 'x.tiff'))['img']
    assert image[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize('pixels', [[[0.0, 1.0]], [[-1, 7]], [[0, 65536]]])
def test_numbers_without_a_white_are_refused(tmp_path, pixels):
    kind = np.float32 if isinstance(pixels[0][0], float) else np.int32
    Image.fromarray(np.array(pixels, kind)).save(tmp_path / 'x.tiff')
    with pytest.raises(BadImageError, match=r'x\.tiff .* white'):
        LoadImage()(dict(img_path=tmp_path / 'x.tiff'))


def test_pictures_are_turned_as_the_camera_says(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right
    results = LoadImage()(save(picture(), tmp_path / 'x.png', exif=exif))
    assert np.array_equal(results['img'], np.rot90(picture(), -1))


def test_no_other_program_decodes_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, 'check_call', lambda *_, **__: pytest.fail('Ghostscript'))
    Image.new('RGB', (9, 9)).save(tmp_path / 'x.eps')
    (tmp_path / 'x.eps').rename(tmp_path / 'x.png')
    with pytest.raises(BadImageError, match=r'x\.png'):
        LoadImage()(dict(img_path=tmp_path / 'x.png'))


def test_what_a_header_promises_is_bounded(tmp_path, encode):
    data = bytearray(encode(np.zeros((1, 1, 3), np.uint8)))
    data[16:24] = struct.pack('>II', 8192, 8193)  # of IHDR, whose checksum follows
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    with pytest.raises(BadImageError, match=r'x\.png .* 8,192 x 8,193'):
        LoadImage()(dict(img_bytes=bytes(data), img_name='x.png'))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'x.png')
    for name in 'x.png', 'missing.png':
        with pytest.raises(BadImageError, match=name):
            LoadImage()(dict(img_path=tmp_path / name))


@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp', 'gif', 'bmp'])
@pytest.mark.parametrize('keep', [0, 8, 0.5, 'noise'])
def test_broken_files_are_named(tmp_path, picture, encode, kind, keep):
    data = encode(picture(width=40, height=30), kind)
    if keep == 'noise':
        data = data[:30] + bytes(picture(1, 40, 30).tobytes())
    else:
        data = data[: keep if isinstance(keep, int) else int(keep * len(data))]
    path = tmp_path / f'x.{kind}'
    path.write_bytes(data)
    if keep == 'noise' and kind in {'bmp', 'gif', 'webp'}:
        return  # Decoders may take that for a picture.
    with pytest.raises(BadImageError, match=str(path)):
        LoadImage()(dict(img_path=str(path)))


# --- the crop ---


def box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(float)


def cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resample(image: np.ndarray, count: int, axis: int, kernel) -> np.ndarray:
    """One axis as a weighted mean, the kernel widened by the factor that the image shrinks."""
    scale = image.shape[axis] / count
    centers = (np.arange(count) + 0.5) * scale
    # In Pillow's order: the middle pixel of an odd size lies on the edge of two boxes.
    distances = np.arange(image.shape[axis]) - centers[:, None] + 0.5
    weights = kernel(distances * (1 / max(scale, 1)))
    weights /= weights.sum(1, keepdims=True)
    result = np.moveaxis(np.tensordot(weights, image.astype(float), (1, axis)), 0, axis)
    return np.floor(result + 0.5).clip(0, 255)


def reference_crop(image: np.ndarray, size: int) -> np.ndarray:
    """ADM's crop by its definition, in floating point."""
    height, width = image.shape[:2]
    while min(height, width) >= 2 * size:
        height, width = height // 2, width // 2
        image = resample(resample(image, width, 1, box), height, 0, box)
    scale = size / min(height, width)
    height, width = round(height * scale), round(width * scale)
    image = resample(resample(image, width, 1, cubic), height, 0, cubic)
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


SHAPES = [(64, 64), (65, 97), (127, 129), (128, 128), (129, 200), (301, 257), (517, 333), (40, 90)]


@pytest.mark.parametrize(('height', 'width'), SHAPES)
@pytest.mark.parametrize('size', [64, 33])
def test_crop_is_adms(picture, height, width, size):
    pixels = picture(height=height, width=width)
    cropped = CenterCrop(size, enlarge=True)(dict(img=pixels))['img']
    assert cropped.shape == (size, size, 3)
    assert cropped.dtype == np.uint8
    # Pillow computes in fixed point, and the middle of an odd size may fall to either side.
    difference = np.abs(cropped - reference_crop(pixels, size))
    assert difference.max() <= (8 if height % 2 and width % 2 else 1)
    assert difference.mean() < 0.1


def test_crop_of_the_right_height_is_the_centre(picture):
    pixels = picture(height=8, width=19)
    assert np.array_equal(CenterCrop(8)(dict(img=pixels))['img'], pixels[:, 5:13])
    upright = pixels.transpose(1, 0, 2)
    assert np.array_equal(CenterCrop(8)(dict(img=upright))['img'], upright[5:13])


def test_gray_images_stay_gray(picture):
    pixels = picture(height=20, width=30, channels=1)
    cropped = CenterCrop(8)(dict(img=pixels))['img']
    assert cropped.shape == (8, 8, 1)
    colour = CenterCrop(8)(dict(img=pixels.repeat(3, axis=2)))['img']
    assert np.array_equal(cropped.repeat(3, axis=2), colour)


def test_small_images_are_refused_or_enlarged(picture):
    results = dict(img=picture(height=7, width=20), img_path='small.png')
    with pytest.raises(BadImageError, match=r'small\.png .* 20 x 7'):
        CenterCrop(8)(dict(results))
    assert CenterCrop(8, enlarge=True)(dict(results))['img'].shape == (8, 8, 3)
