"""The table and the file."""

import json

import pytest

from mmagic_cm.evaluation.report import format_about, format_table, write_report


def test_the_papers_figures_stand_beside_ours():
    lines = format_table(
        {'fid': 6.31234, 'digits/recall': 0.5, 'kid': 1e-5}, dict(fid=6.2, recall=0.63)
    )
    assert [line.split() for line in lines.splitlines()] == [
        ['metric', 'this', 'run', 'paper'],
        ['fid', '6.3123', '6.2'],
        ['digits/recall', '0.5', '0.63'],
        ['kid', '1e-05'],
    ]
    assert 'paper' not in format_table(dict(fid=1.0))


def test_what_is_not_known_is_left_out():
    about = {'reference': 'a.npz', 'reference images': None, 'images': 50000}
    assert format_about(about).split() == ['reference', 'a.npz', 'images', '50,000']


def test_a_file_has_the_figures_and_what_they_depend_on(tmp_path):
    path = tmp_path / 'new/metrics.json'
    write_report(path, dict(fid=6.5), dict(images=3, crop=None))
    assert json.loads(path.read_text()) == dict(fid=6.5, about=dict(images=3, crop=None))
    with pytest.raises(OSError, match=r'metrics\.json'):
        write_report(path / 'below.json', {}, {})
