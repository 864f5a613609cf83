"""Which models the page offers, and which it refuses."""

import os
import shutil
from unittest import mock

import numpy as np
import pytest

from mmagic_cm.checkpoints import RELEASED, checkpoint, read_checkpoint
from mmagic_cm.errors import InputError
from mmagic_cm.web.models import OWN, Shelf, labels_of

DIGITS = list('0123456789')


@pytest.fixture
def shelf(work_dirs) -> Shelf:
    return Shelf([work_dirs], 'cpu')


def test_what_is_found(shelf, cache):
    (cache / 'other.safetensors').touch()
    (cache / 'cd_cat256_l2.pt').touch()
    (cache / 'edm-cifar10-32x32-cond-vp.pkl').touch()
    names = [*shelf.checkpoints()]
    assert names == ['digits/iter_2.pth', *RELEASED, 'other.safetensors']
    configs = [*shelf.configs()]
    assert configs[0] == 'digits/tiny.py'
    assert 'consistency_models/ect_1xb96-digits-8x8.py' in configs
    assert [*shelf.runs()] == ['digits']


def test_files_are_told_by_their_beginning(shelf, work_dirs):
    folder = work_dirs / 'digits'
    shutil.copy(folder / 'iter_2.pth', folder / 'checkpoint_80')
    np.savez(folder / 'samples.npz', np.zeros(3))
    (folder / 'log.txt').write_text('a text')
    found = {name for name in shelf.checkpoints() if name.startswith('digits/')}
    num_classes = shelf.model('digits/checkpoint_80').num_classes
    for name in ('checkpoint_80', 'samples.npz', 'log.txt'):
        (folder / name).unlink()
    assert found == {'digits/checkpoint_80', 'digits/iter_2.pth'}
    assert num_classes == 10


def test_the_newest_checkpoint_comes_first(shelf, work_dirs):
    newer = work_dirs / 'digits' / 'iter_3.pth'
    shutil.copy(work_dirs / 'digits' / 'iter_2.pth', newer)
    os.utime(newer, (2e9, 2e9))
    assert [*shelf.checkpoints()][:2] == ['digits/iter_3.pth', 'digits/iter_2.pth']
    newer.unlink()


def test_a_model_stays_until_its_file_changes_or_others_come(shelf, work_dirs):
    first = shelf.model('digits/iter_2.pth')
    assert shelf.model('digits/iter_2.pth') is first
    assert shelf.model('digits/iter_2.pth', precision='bf16').precision == 'bf16'
    assert shelf.model('digits/iter_2.pth') is first
    os.utime(work_dirs / 'digits' / 'iter_2.pth')
    assert shelf.model('digits/iter_2.pth') is not first
    shelf.model('digits/iter_2.pth', 'digits/tiny.py')
    assert len(shelf._loaded) == 2


@pytest.fixture
def read():
    with mock.patch.object(checkpoint, 'read_checkpoint', wraps=read_checkpoint) as counted:
        yield counted


def test_a_first_picture_reads_its_file_once_for_the_facts_and_once_for_the_weights(
    shelf, work_dirs, read
):
    os.utime(work_dirs / 'digits' / 'iter_2.pth', (3e9, 3e9))
    for _ in range(2):
        shelf.class_names('digits/iter_2.pth')
        shelf.model('digits/iter_2.pth')
    assert read.call_count == 2


@pytest.mark.parametrize(
    'name', ['/etc/passwd', '../secret.pth', '{tmp}/copy.pth', 'digits/../digits/iter_2.pth', '']
)
def test_no_path_is_opened(shelf, work_dirs, tmp_path, name):
    shutil.copy(work_dirs / 'digits' / 'iter_2.pth', tmp_path / 'copy.pth')
    for ask in (shelf.model, shelf.class_names, shelf.config):
        with pytest.raises(InputError, match=r'none of the checkpoints|Choose a checkpoint'):
            ask(name.format(tmp=tmp_path))


def test_any_path_where_that_is_allowed(work_dirs, tmp_path):
    shutil.copy(work_dirs / 'digits' / 'iter_2.pth', tmp_path / 'copy.pth')
    shelf = Shelf([work_dirs], 'cpu', allow_any_checkpoint=True)
    assert shelf.model(str(tmp_path / 'copy.pth')).num_classes == 10
    with pytest.raises(InputError, match='no config that this page offers'):  # a program
        shelf.model('digits/iter_2.pth', str(tmp_path / 'copy.py'))


def test_a_released_model_that_is_not_there_says_where_it_comes_from(shelf):
    with pytest.raises(InputError, match=r'download_checkpoints\.py cd_imagenet64_l2'):
        shelf.model('cd_imagenet64_l2')


@pytest.mark.parametrize('name', RELEASED)
def test_what_is_known_of_a_released_model_before_it_is_there(name, shelf, tmp_path, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    model = RELEASED[name]
    cfg = shelf.config(name)
    assert cfg.model.sampler == model.sampler
    names = shelf.class_names(name)
    assert (names and len(names)) == cfg.model.denoiser.network.get('num_classes')
    about = shelf.about(name)
    assert model.figures in about
    assert model.command in about
    assert ('CC BY-NC-SA' in about) == (model.family.licence is not None)


def test_what_is_said_about_others(shelf, tmp_path, monkeypatch):
    assert shelf.about('digits/iter_2.pth') == shelf.about(None) == ''
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    (tmp_path / 'ct_cat256.pt').touch()
    assert 'download' not in shelf.about('ct_cat256')


def test_names_of_classes(shelf):
    assert shelf.class_names('digits/iter_2.pth') == DIGITS
    imagenet = shelf.class_names('cd_imagenet64_lpips')
    assert len(set(imagenet)) == 1000
    assert [imagenet[i] for i in (0, 145, 207, 999)] == [
        'tench',
        'king penguin',
        'golden retriever',
        'toilet tissue',
    ]
    assert shelf.class_names('cd_cat256_lpips') is None
    assert shelf.class_names('edm-cifar10-32x32-cond-ve')[8] == 'ship'


def test_the_config_that_lies_beside_serves_where_none_is_inside(shelf, work_dirs, build_model):
    import torch

    path = work_dirs / 'digits' / 'bare.pth'
    torch.save(dict(state_dict=build_model().state_dict()), path)
    assert shelf.config('digits/bare.pth', OWN).model.denoiser.network.num_classes == 10
    alone = work_dirs / 'bare.pth'
    shutil.move(path, alone)
    with pytest.raises(InputError, match='holds no config: choose one'):
        shelf.config('bare.pth')
    alone.unlink()


def test_labels():
    assert labels_of(['king penguin', '2'], ['tench', 'king penguin', 'shark']) == '1,2'
    assert labels_of(['3', 7], DIGITS) == '3,7'
    assert labels_of(['1'], ['1', '0']) == '0'
    assert labels_of([], DIGITS) is None
    assert labels_of([], None) is None
    with pytest.raises(InputError, match=r"'sharc' is no class.* Did you mean 'shark'"):
        labels_of(['sharc'], ['tench', 'shark'])
    with pytest.raises(InputError, match='unconditional'):
        labels_of(['1'], None)
