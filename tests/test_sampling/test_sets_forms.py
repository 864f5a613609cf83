"""Sets of samples in files: what they look like, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.diffusion.samplers import HeunSampler
from mmagic_cm.errors import InputError
from mmagic_cm.io.images import make_grid
from mmagic_cm.sampling.loop import choose_labels, sample_images
from mmagic_cm.sampling.sets import write_samples

COUNT = 50


def interrupt(model, out: Path, batch: int) -> None:
    """Begin a set of ``COUNT`` images in batches of 4, and stop while a batch is drawn."""
    sample, calls = model.sample, []

    def stop(*args, **settings):
        calls.append(args)
        if len(calls) == batch:
            raise KeyboardInterrupt
        return sample(*args, **settings)

    model.sample = stop
    with pytest.raises(KeyboardInterrupt):
        write_samples(model, COUNT, out, batch_size=4)
    model.sample = sample


# --- forms ---


def test_a_folder(model, expected, tmp_path):
    out = tmp_path / 'new' / 'folder'
    write_samples(model, COUNT, out, seed=2, batch_size=7)
    names = [f'{i:06d}.png' for i in range(COUNT)]
    assert sorted(path.name for path in out.iterdir()) == [*names, 'labels.txt', 'settings.json']
    images = np.stack([np.asarray(Image.open(out / name)) for name in names])[..., None]
    assert abs(images.astype(int) - expected[0]).max() <= 1
    assert np.array_equal(np.loadtxt(out / 'labels.txt', dtype=int), expected[1])
    assert json.loads((out / 'settings.json').read_text())['seed'] == 2


@pytest.mark.parametrize(('num_columns', 'shown'), [(None, 8), (10, 10)])
def test_a_grid(num_columns, shown, model, expected, tmp_path):
    out = tmp_path / 'a.png'
    out.write_bytes(b'an older picture')  # is replaced
    write_samples(model, COUNT, out, seed=2, num_columns=num_columns)
    found, whole = Image.open(out), make_grid(expected[0], shown)
    assert found.size == whole.size
    assert abs(np.asarray(found).astype(int) - np.asarray(whole)).max() <= 1
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_samplers_and_labels_reach_the_images(model, tmp_path):
    sampler = HeunSampler(num_steps=3)
    write_samples(model, 6, tmp_path / 'a.npz', labels='1,5', sampler=sampler)
    labels = choose_labels(model, range(6), '1,5')
    expected = sample_images(model, range(6), labels, HeunSampler(num_steps=3))
    with np.load(tmp_path / 'a.npz') as found:
        assert np.array_equal(found['arr_0'], expected)
        assert found['arr_1'].tolist() == [1, 5] * 3


def test_progress_counts_what_was_there(model, tmp_path, capfd):
    out = tmp_path / 'a.npz'
    interrupt(model, out, batch=6)
    assert 'image' not in capfd.readouterr().err
    write_samples(model, COUNT, out, batch_size=4, progress=True)
    shown = capfd.readouterr().err
    assert 'sampling' in shown
    assert ' 20/50 ' in shown
    assert ' 50/50 ' in shown
    assert 'image/s' in shown


# --- mistakes ---


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(num_samples=51), 'num_samples: 50 .* 51'),
        (dict(seed=3), 'seed: 0 .* 3'),
        (dict(labels='balanced'), 'labels: '),
        (dict(sampler='HeunSampler'), 'sampler: .*OnestepSampler.* .*HeunSampler'),
        (dict(guidance_scale=2.0), 'guidance_scale: None .* 2.0'),
        (dict(precision='bf16'), 'precision: fp32 .* bf16'),
        (dict(weights=1), 'model: '),
        (dict(parameterization='edm'), 'model: '),
        (dict(heads=2), 'model: '),
    ],
)
def test_other_settings_do_not_go_on(changes, match, build_model, tmp_path):
    out = tmp_path / 'a.npz'
    network = dict(null_class=True, attention_resolutions=(8,), num_heads=1)
    interrupt(build_model(network), out, batch=2)
    changes = dict(changes)
    network['num_heads'] = changes.pop('heads', 1)
    model = build_model(
        network, changes.pop('parameterization', 'consistency'), seed=changes.pop('weights', 0)
    )
    model.precision = changes.pop('precision', 'fp32')
    model.guidance_scale = changes.pop('guidance_scale', None)
    files = sorted(path.name for path in (tmp_path / 'a.npz.part').iterdir())
    settings = dict(num_samples=50) | changes
    with pytest.raises(InputError, match=rf'a\.npz\.part .*{match}'):
        write_samples(model, out=out, **settings)
    assert sorted(path.name for path in (tmp_path / 'a.npz.part').iterdir()) == files
    assert not out.exists()


def test_settings_before_the_first_image_do_not_bind(model, tmp_path):
    interrupt(model, tmp_path / 'a.npz', batch=1)
    write_samples(model, 5, tmp_path / 'a.npz', seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ['a.npz']


@pytest.mark.parametrize('name', ['000000-000004.npy', 'settings.json'])
def test_damaged_files_are_named(name, model, tmp_path):
    interrupt(model, tmp_path / 'a.npz', batch=4)
    (tmp_path / 'a.npz.part' / name).write_bytes(b'')
    with pytest.raises((EOFError, ValueError)) as error:
        write_samples(model, 50, tmp_path / 'a.npz', batch_size=4)
    assert f'reading {tmp_path}/a.npz.part/{name}' in error.value.__notes__[0]


@pytest.mark.parametrize(
    'name', ['taken.npz', 'taken', 'folder.npz', 'folder.png', 'taken.npz/a.npz', 'a.pgn']
)
def test_names_that_do_not_do(name, model, tmp_path):
    (tmp_path / 'taken').mkdir()
    (tmp_path / 'taken' / 'something').write_text('')
    (tmp_path / 'taken.npz').write_text('')
    for folder in ('folder.npz', 'folder.png'):
        (tmp_path / folder).mkdir()
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises((InputError, OSError), match=name.partition('/')[0]):
        write_samples(model, 4, tmp_path / name)
    assert sorted(tmp_path.rglob('*')) == before


def test_a_folder_may_have_a_number_at_its_end(model, tmp_path):
    write_samples(model, 2, tmp_path / 'ema_0.999')
    assert (tmp_path / 'ema_0.999' / '000001.png').is_file()


@pytest.mark.parametrize(
    'wrong', [dict(num_samples=0), dict(batch_size=0), dict(seed=-1), dict(sampler='Heun')]
)
def test_bad_settings(wrong, model, tmp_path):
    with pytest.raises(InputError, match=str(next(iter(wrong)))):
        write_samples(model, out=tmp_path / 'a.npz', **{'num_samples': 4, **wrong})
    model.guidance_scale = 2.0
    with pytest.raises(InputError, match='null_class'):
        write_samples(model, 4, tmp_path / 'a.npz')
    assert not list(tmp_path.iterdir())
