"""Files as a whole or not at all, and those that have an end."""

import os

import pytest

from mmagic_cm.errors import InputError
from mmagic_cm.io.files import UNFINISHED, existing_file, in_place_of


@pytest.mark.parametrize('settings', [{}, dict(durable=True), dict(shared=True)])
def test_the_name_is_given_at_the_end(settings, tmp_path):
    path = tmp_path / 'a/b.txt'
    with in_place_of(path, **settings) as fresh:
        fresh.write_text('new')
        assert fresh.name.endswith(UNFINISHED)
        assert fresh.parent == path.parent
        assert not path.exists()
    assert path.read_text() == 'new'
    assert [*path.parent.iterdir()] == [path]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'b.txt'
    path.write_text('old')
    with pytest.raises(TypeError), in_place_of(path) as fresh:
        fresh.write_text(fresh.write_text('new'))
    assert path.read_text() == 'old'
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_takes_the_place_of_an_empty_one_and_of_what_was_left_behind(tmp_path):
    folder = tmp_path / 'out'
    folder.mkdir()
    (tmp_path / f'.out{UNFINISHED}').mkdir()
    with in_place_of(folder) as fresh:
        fresh.mkdir()
        (fresh / 'a').touch()
    assert [*tmp_path.rglob('*')] == [folder, folder / 'a']


def test_processes_do_not_write_to_each_other_s(tmp_path):
    with in_place_of(tmp_path / 'a', shared=True) as fresh:
        assert str(os.getpid()) in fresh.name
        fresh.touch()


def test_only_regular_files_exist(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for name in ('none', 'pipe', ''):
        with pytest.raises(InputError, match=str(tmp_path / name)):
            existing_file(tmp_path / name)
    (tmp_path / 'file').touch()
    assert existing_file(str(tmp_path / 'file')) == tmp_path / 'file'
