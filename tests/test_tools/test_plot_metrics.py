"""``tools/analysis_tools/plot_metrics.py``: what it writes and refuses."""

import json

import pytest
from PIL import Image

from mmagic_cm.evaluation.report import write_report

TOOL = 'tools/analysis_tools/plot_metrics.py'


@pytest.fixture
def folder(tmp_path):
    """Two results of a checkpoint, and a file of something else."""
    (tmp_path / 'log.json').write_text(json.dumps(dict(step=1, fid=9)))
    for evaluations in (1, 2):
        about = {'network evaluations': evaluations, 'checkpoint': 'a.pth'}
        write_report(tmp_path / f'{evaluations}.json', dict(fid=3), about)
    return tmp_path


def test_a_picture(run_script, folder):
    results = folder / '1.json', folder / '2.json'
    for args, out in [
        (results, folder / 'metrics.png'),
        ((*results, '--metric', 'fid', '--out', folder / 'new/a.png'), folder / 'new/a.png'),
    ]:
        assert run_script(TOOL, *args) == (0, f'Drawn in {out}\n', '')
        assert Image.open(out).width > 500


def test_what_it_refuses(refusal, folder):
    result = folder / '1.json'
    assert 'fdi' in refusal(TOOL, result, '--metric', 'fdi')
    assert 'a.txt' in refusal(TOOL, result, '--out', 'a.txt')
    assert 'log.json' in refusal(TOOL, folder / 'log.json')
