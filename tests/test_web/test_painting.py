"""Small pictures are shown large, and come back as they were."""

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.errors import InputError
from mmagic_cm.web.painting import (
    MAX_SIZE,
    PAINTED,
    SHOWN_SIZE,
    enlarge,
    from_editor,
    make_mask,
)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize('size', [(8, 8), (8, 5), (64, 64), (500, 300)])
def test_there_and_back(size):
    pixels = noise(*size)
    shown = enlarge(Image.fromarray(pixels))
    assert max(shown.size) >= SHOWN_SIZE
    picture, painted = from_editor(dict(background=shown, layers=[], composite=shown), True)
    assert np.array_equal(picture, pixels)
    assert painted.shape == size
    assert not painted.any()


def test_large_pictures_are_scaled_down():
    large = Image.fromarray(noise(600, 2 * MAX_SIZE))
    layer = Image.new('RGBA', large.size)
    layer.paste('red', (0, 0, MAX_SIZE, 600))
    picture, painted = from_editor(dict(background=large, layers=[layer], composite=large), True)
    assert picture.shape == (300, MAX_SIZE, 3)
    assert painted[:, : MAX_SIZE // 2].all()
    assert not painted[:, MAX_SIZE // 2 :].any()


def test_what_is_touched_is_painted():
    shown = enlarge(Image.fromarray(noise(8, 8)))
    layer = np.zeros((SHOWN_SIZE, SHOWN_SIZE, 4), np.uint8)
    side = SHOWN_SIZE // 8
    layer[7 * side - 1, side // 2 : side + 1] = (
        255  # one row of shown pixels, within row 6, over columns 0 and 1
    )
    value = dict(background=shown, layers=[Image.fromarray(layer)], composite=shown)
    _, painted = from_editor(value, True)
    assert np.argwhere(painted).tolist() == [[6, 0], [6, 1]]
    mask = make_mask(PAINTED, painted)
    assert mask[6].tolist() == [0, 0, 255, 255, 255, 255, 255, 255]
    assert (np.delete(mask, 6, axis=0) == 255).all()


def test_the_paint_is_part_of_a_painting():
    black = Image.new('RGB', (SHOWN_SIZE, SHOWN_SIZE))
    white = Image.new('RGB', (SHOWN_SIZE, SHOWN_SIZE), 'white')
    layer = Image.new('RGBA', (SHOWN_SIZE, SHOWN_SIZE), (255, 255, 255, 255))
    value = dict(background=black, layers=[layer], composite=white)
    assert from_editor(value, needs_mask=False)[0].max() == 255
    assert from_editor(value, needs_mask=True)[0].max() == 0


@pytest.mark.parametrize(
    ('kind', 'filled'), [('lower half', 32), ('right half', 32), ('middle', 16)]
)
def test_masks_to_pick(kind, filled):
    mask = make_mask(kind, np.zeros((8, 8), bool))
    assert (mask == 0).sum() == filled
    assert set(np.unique(mask)) == {0, 255}


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match='picture'):
        from_editor(None, True)
    with pytest.raises(InputError, match='painted'):
        make_mask(PAINTED, np.zeros((8, 8), bool))
