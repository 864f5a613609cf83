"""Pictures: levels, grids, files."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.errors import InputError
from mmagic_cm.io.images import (
    is_picture,
    make_grid,
    save_image,
    save_images,
    save_npz,
    to_uint8,
    to_unit_range,
)


def noise_images(count, height, width, channels):
    shape = (count, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# --- levels ---


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_all_256_levels_survive_a_round_trip(dtype):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    unit = to_unit_range(levels)
    assert unit.dtype == torch.float32
    assert (unit.min(), unit.max()) == (-1, 1)
    found = to_uint8(unit.to(dtype))
    assert found.dtype == torch.uint8
    assert torch.equal(found, levels)


@pytest.mark.parametrize(
    ('value', 'level'),
    [(-1.5, 0), (1.5, 255), (1e9, 255), (0.4 / 127.5 - 1, 0), (0.6 / 127.5 - 1, 1), (0.0, 128)],
)
def test_to_uint8_rounds_and_clamps(value, level):
    assert to_uint8(torch.tensor([value])).item() == level


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_to_uint8_does_not_draw_black_for_what_is_no_number(value):
    with pytest.raises(InputError, match='NaN'):
        to_uint8(torch.tensor([0.5, value]))


def test_to_uint8_of_bfloat16():
    assert to_uint8(torch.tensor([-1.0, 0.5, 1.0], dtype=torch.bfloat16)).tolist() == [0, 191, 255]


# --- grids ---


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    ('size', 'cell_size', 'scale'),
    [
        ((8, 8), None, 4),  # the least multiple of 8 that is at least 32
        ((12, 12), None, 3),
        ((64, 64), None, 1),
        ((8, 8), 16, 2),
        ((8, 8), 20, 2),
        ((64, 64), 16, 1),  # never made smaller
        ((4, 8), None, 4),  # the width counts
    ],
)
def test_geometry_of_a_grid(channels, size, cell_size, scale):
    height, width = size
    images = noise_images(7, height, width, channels)
    grid = make_grid(images, 3, cell_size=cell_size, padding=2)
    step_y, step_x = height * scale + 2, width * scale + 2
    assert grid.size == (3 * step_x + 2, 3 * step_y + 2)  # seven images fill three rows
    pixels = np.asarray(grid)
    background = np.ones(pixels.shape[:2], bool)
    for i, image in enumerate(images):
        top, left = 2 + i // 3 * step_y, 2 + i % 3 * step_x
        cell = pixels[top : top + height * scale, left : left + width * scale]
        enlarged = image.repeat(scale, 0).repeat(scale, 1)  # without smoothing
        assert np.array_equal(cell, np.broadcast_to(enlarged, cell.shape))
        background[top : top + height * scale, left : left + width * scale] = False
    assert (pixels[background] == 0).all()


def test_labels_of_rows():
    images = noise_images(4, 8, 8, 1)
    plain = make_grid(images, 2, padding=3)
    grid = make_grid(images, 2, row_labels=['7', 'a longer text'], padding=3)
    margin = grid.width - plain.width
    assert margin > 0
    assert grid.height == plain.height
    pixels = np.asarray(grid)
    assert (pixels[0] == 255).all()  # black text wants a white ground
    for top in (3, 3 + 35):
        assert (pixels[top : top + 32, :margin] < 128).any(), 'no text beside this row'
        cell = pixels[top : top + 32, margin + 3 : margin + 35]
        assert np.array_equal(cell, np.asarray(plain)[top : top + 32, 3:35])
    assert (pixels[:, margin - 6 : margin] == 255).all()  # texts end before the pictures


# --- files ---


@pytest.mark.parametrize('shape', [(5, 4, 1), (5, 4, 3)])
@pytest.mark.parametrize('name', ['a.png', 'new/folder/b.PNG', 'c.bmp'])
def test_a_picture_is_written_as_it_is(shape, name, tmp_path):
    image = noise_images(1, *shape)[0]
    path = save_image(image, str(tmp_path / name))
    assert path == tmp_path / name
    found = np.asarray(Image.open(path))
    assert np.array_equal(found, image[..., 0] if shape[-1] == 1 else image)
    again = save_image(Image.open(path), tmp_path / 'again.png')
    assert np.array_equal(np.asarray(Image.open(again)), found)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('a.png', True), ('a/b.JPG', True), ('a', False), ('a.npz', False), ('.png', False)],
)
def test_names_of_pictures(name, expected, tmp_path):
    assert is_picture(name) == expected
    if not expected:
        with pytest.raises(InputError, match=name):
            save_image(noise_images(1, 4, 4, 1)[0], tmp_path / name)


@pytest.mark.parametrize('where', ['file/name.png', 'folder.png'])
def test_where_nothing_can_be_written(where, tmp_path):
    (tmp_path / 'file').write_text('a file')
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(OSError, match=where.split('/')[0]) as caught:
        save_image(noise_images(1, 4, 4, 1)[0], tmp_path / where)
    assert caught.value.__notes__ == [f'while writing {tmp_path / where}']


def test_a_folder_of_pictures(tmp_path):
    images = noise_images(3, 4, 4, 3)
    save_images(images, tmp_path / 'new')
    names = sorted(path.name for path in (tmp_path / 'new').iterdir())
    assert names == ['000000.png', '000001.png', '000002.png']
    found = [np.asarray(Image.open(tmp_path / 'new' / name)) for name in names]
    assert np.array_equal(found, images)


@pytest.mark.parametrize('labels', [None, np.array([3, 1])])
def test_npz_as_evaluators_read_it(labels, tmp_path):
    images = noise_images(2, 4, 4, 1)
    path = tmp_path / 'new' / 'samples.npz'
    save_npz(images, labels, path)
    with np.load(path) as arrays:
        assert arrays.files == (['arr_0'] if labels is None else ['arr_0', 'arr_1'])
        assert arrays['arr_0'].dtype == np.uint8
        assert np.array_equal(arrays['arr_0'], images)
        assert labels is None or np.array_equal(arrays['arr_1'], labels)
