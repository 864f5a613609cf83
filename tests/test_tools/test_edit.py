"""``tools/edit.py`` as users type it, and the gallery of the demo."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.apis import init_model

ROOT = Path(__file__).parents[2]
TOOL = 'tools/edit.py'
CONFIG = ROOT / 'configs/consistency_models/cd-l2_1xb96-digits-8x8.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, untrained):
    path = tmp_path_factory.mktemp('run') / 'iter_1.pth'
    torch.save(dict(state_dict=untrained(CONFIG).state_dict()), path)
    return path


@pytest.fixture
def files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 20), np.uint8)
    for name, image in zip('ab', pixels, strict=True):
        Image.fromarray(image).save(tmp_path / f'{name}.png')
    mask = np.full((12, 20), 255, np.uint8)
    mask[6:] = 0
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    return tmp_path


@pytest.fixture
def command(run_script, checkpoint, files):
    """Run the command in this process; the folder that it wrote to, and all that it said."""

    def run(task, *args):
        out = files / 'out'
        code, *said = run_script(TOOL, task, CONFIG, checkpoint, *args, '--out', out)
        assert code == 0, said
        return out, ''.join(said)

    return run


def test_it_writes_parts_and_the_whole(command, files):
    settings = ['--num-steps', 4, '--num-candidates', 3, '--labels', '3,1', '--seed', 5]
    images = [files / 'a.png', files / 'b.png']
    out, said = command('inpainting', *images, '--mask', files / 'mask.png', *settings)
    parts = ['input', 'degraded', '0', '1', '2']
    names = {f'{stem}_{part}.png' for stem in 'ab' for part in parts} | {'a.png', 'b.png'}
    assert {path.name for path in out.iterdir()} == names
    image, first = (np.asarray(Image.open(p)) for p in (images[0], out / 'a_0.png'))
    assert np.array_equal(first[:6], image[:6])
    assert not np.array_equal(first[6:], image[6:])
    assert Image.open(out / 'a.png').width > 5 * 20
    assert 'a.png: input, degraded, 0, 1, 2, from left to right' in said
    assert 'multistep' in said


@pytest.mark.parametrize(
    ('task', 'settings'),
    [
        ('super-resolution', ['--factor', 2, '--num-steps', 2]),
        ('super-resolution', ['--sigmas', '5,1', '--num-resamples', 2]),
        ('stroke', ['--sigma-max', 3]),
        ('denoising', ['--sigma', 0.5]),
    ],
)
def test_the_other_tasks(task, settings, command, files):
    out, _ = command(task, files / 'a.png', '--labels', 3, *settings)
    assert (out / 'a.png').is_file()
    assert (out / 'a_degraded.png').is_file() == (task == 'super-resolution')


def test_walks(command, files, checkpoint):
    out, _ = command('interpolation', '--labels', 3, '--num-candidates', 5)
    assert len([*out.glob('walk_*.png')]) == 5
    images = [files / 'a.png', files / 'b.png']
    out, _ = command('interpolation', *images, '--labels', '3,1', '--teacher', checkpoint)
    assert (out / 'walk_first.png').is_file()
    assert len([*out.glob('walk_*.png')]) == 8 + 2


def test_the_gallery(load_script, checkpoint, tmp_path):
    gallery = load_script('demo/digits_gallery.py')
    found = gallery.draw_gallery(init_model(CONFIG, checkpoint), tmp_path, num_digits=4)
    assert [path.name for path in found] == [
        f'editing_{name}.png' for name in ('inpainting', 'super-resolution', 'denoising', 'walk')
    ]
    # Each line: the original, what the model sees, three candidates.
    assert Image.open(found[0]).width == 5 * 42 + 2
    assert Image.open(found[0]).height == 4 * 42 + 2
