"""``demo/download_checkpoints.py`` as users type it."""

from functools import partial
from pathlib import Path

import pytest

from mmagic_cm.checkpoints import RELEASED, fetching
from mmagic_cm.metrics import InceptionFeatures

SCRIPT = Path(__file__).parents[2] / 'demo/download_checkpoints.py'


@pytest.fixture
def command(run_script, monkeypatch, tmp_path):
    """Run it in this process; a download leaves an empty file."""
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))

    def fetch(name):
        RELEASED[name].path.touch()
        return RELEASED[name].path

    monkeypatch.setattr(fetching, 'fetch', fetch)
    return partial(run_script, 'demo/download_checkpoints.py')


def test_by_name(command, tmp_path):
    code, printed, _ = command('ct_cat256', 'cd_imagenet64_l2')
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {'ct_cat256.pt', 'cd_imagenet64_l2.pt'}
    assert f'{tmp_path}/ct_cat256.pt is there' in printed


def test_without_a_name_it_lists_and_downloads_nothing(command, tmp_path):
    (tmp_path / 'ct_cat256.pt').touch()
    code, printed, _ = command()
    assert code == 0
    rows = [line.split() for line in printed.splitlines() if line.startswith('  ')]
    assert [row[0] for row in rows] == [*RELEASED]
    places = {row[0]: row[-1] for row in rows}
    assert places.pop('ct_cat256') == f'{tmp_path}/ct_cat256.pt'
    assert places == {name: RELEASED[name].url for name in places}
    families = [line for line in printed.splitlines() if not line.startswith('  ')]
    assert ['CC BY-NC-SA 4.0' in family for family in families] == [False, False, True]
    assert len([*tmp_path.iterdir()]) == 1


def test_all(command, tmp_path):
    assert command('--all')[0] == 0
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {model.path.name for model in RELEASED.values()}
    assert {path.rpartition('.')[2] for path in files} == {'pt', 'msgpack', 'pkl'}


def test_a_wrong_name_is_told_before_anything_is_downloaded(command, tmp_path):
    code, _, error = command('ct_cat256', 'ct_cat25')
    assert code == 1
    assert error.startswith("error: 'ct_cat25' is no released model. Did you mean 'ct_cat256'?")
    assert [*tmp_path.iterdir()] == []


def test_the_inception_network_of_fid(command, monkeypatch):
    monkeypatch.setattr(InceptionFeatures, 'fetch', lambda self: self.file.path)
    code, out, _ = command('--inception')
    assert code == 0
    assert out == f'{InceptionFeatures().file.path} is there, and is what it should be\n'
