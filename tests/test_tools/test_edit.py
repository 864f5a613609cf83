"""``tools/edit.py`` as users type it, and the gallery of the demo."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmagic_cm.apis import init_model
from mmagic_cm.errors import InputError

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/consistency_models/cd-l2_1xb96-digits-8x8.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'iter_1.pth'
    torch.manual_seed(0)
    model = init_model(CONFIG)
    torch.nn.init.normal_(model.denoiser.network.out[2].weight, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), path)
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
def command(load_script, monkeypatch, checkpoint, files):
    """Run the command in this process; the folder that it wrote to."""
    tool = load_script('tools/edit.py')

    def run(task, *args):
        out = files / 'out'
        argv = ['tools/edit.py', task, CONFIG, checkpoint, *args, '--out', out]
        monkeypatch.setattr(sys, 'argv', [*map(str, argv)])
        tool.main()
        return out

    return run


def test_it_writes_parts_and_the_whole(command, files, capfd):
    settings = ['--num-steps', 4, '--num-candidates', 3, '--labels', '3,1', '--seed', 5]
    images = [files / 'a.png', files / 'b.png']
    out = command('inpainting', *images, '--mask', files / 'mask.png', *settings)
    parts = ['input', 'degraded', '0', '1', '2']
    names = {f'{stem}_{part}.png' for stem in 'ab' for part in parts} | {'a.png', 'b.png'}
    assert {path.name for path in out.iterdir()} == names
    image, first = (np.asarray(Image.open(p)) for p in (images[0], out / 'a_0.png'))
    assert np.array_equal(first[:6], image[:6])
    assert not np.array_equal(first[6:], image[6:])
    assert Image.open(out / 'a.png').width > 5 * 20
    told = capfd.readouterr()
    assert 'a.png: input, degraded, 0, 1, 2, from left to right' in told.out
    assert 'multistep' in told.err


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
    out = command(task, files / 'a.png', '--labels', 3, *settings)
    assert (out / 'a.png').is_file()
    assert (out / 'a_degraded.png').is_file() == (task == 'super-resolution')


def test_walks(command, files, checkpoint):
    out = command('interpolation', '--labels', 3, '--num-candidates', 5)
    assert len([*out.glob('walk_*.png')]) == 5
    images = [files / 'a.png', files / 'b.png']
    out = command('interpolation', *images, '--labels', '3,1', '--teacher', checkpoint)
    assert (out / 'walk_first.png').is_file()
    assert len([*out.glob('walk_*.png')]) == 8 + 2


@pytest.mark.parametrize(
    ('args', 'named'),
    [
        (['inpaint', 'a.png'], "'inpainting'"),
        (['inpainting', 'a.png'], 'mask'),
        (['inpainting', 'a.png', '--mask', 'b.txt'], 'b.txt'),
        (['super-resolution', 'a.png', '--factor', 3], 'factor 3'),
        (['super-resolution', 'a.png', '--labels', 11], '11'),
        (['stroke', 'a.png', 'sub/a.png'], "'a'"),
    ],
)
def test_bad_input(args, named, command, files):
    (files / 'b.txt').write_text('no picture')
    suffixes = ('.png', '.txt')
    args = [files / a if str(a).endswith(suffixes) else a for a in args]
    with pytest.raises(InputError, match=named):
        command(*args)


def test_the_gallery(load_script, checkpoint, tmp_path):
    gallery = load_script('demo/digits_gallery.py')
    found = gallery.draw_gallery(init_model(CONFIG, checkpoint), tmp_path, num_digits=4)
    assert [path.name for path in found] == [
        f'editing_{name}.png' for name in ('inpainting', 'super-resolution', 'denoising', 'walk')
    ]
    # Each line: the original, what the model sees, three candidates.
    assert Image.open(found[0]).width == 5 * 42 + 2
    assert Image.open(found[0]).height == 4 * 42 + 2
