"""The tutorial runs from top to bottom, and shows what its text says."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat')

PATH = Path(__file__).parents[2] / 'demo/mmagic_cm_tutorial.ipynb'
MAX_BYTES = 1_000_000


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


def outputs(notebook) -> list:
    return [out for cell in notebook.cells if cell.cell_type == 'code' for out in cell.outputs]


def figures_of(notebook) -> int:
    return sum('image/png' in out.get('data', {}) for out in outputs(notebook))


def printed(notebook) -> str:
    return ''.join(out.text for out in outputs(notebook) if out.output_type == 'stream')


def percent(pattern: str, text: str) -> float:
    return float(re.search(pattern + r'\D*?([\d.]+)%', text)[1]) / 100


def check_what_is_shown(notebook) -> None:
    assert not [out for out in outputs(notebook) if out.output_type == 'error']
    assert figures_of(notebook) >= 8
    text = printed(notebook)

    assert 'at sigma_min nothing moves: True' in text
    for missed in re.findall(r'f misses the end of the path by ([\d.]+)', text):
        assert float(missed) < 0.002
    one, two = (
        re.search(rf'^{steps}: energy distance (\S+), ([\d.]+)%', text, re.M).groups()
        for steps in ('one step', 'two steps')
    )
    # Between two sets of real data it is 0.000 +- 0.001, of an untrained model 0.2.
    assert float(one[0]) < 0.008
    assert float(two[0]) < 0.005
    assert float(one[1]) > 70
    assert float(re.search(r'one jump from sigma = 80: ([\d.]+)', text)[1]) < 0.15
    assert percent('send to the same cloud:', text) > 0.9

    assert percent('one step +read as their label:', text) > 0.85
    assert percent('two steps +read as their label:', text) > 0.85
    assert 'to the last bit: True' in text
    assert percent('candidates read as their label:', text) > 0.8


def test_tutorial_is_committed_with_its_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert PATH.stat().st_size < MAX_BYTES
    assert not [out for out in outputs(notebook) if out.get('name') == 'stderr']
    check_what_is_shown(notebook)


@pytest.mark.slow
def test_tutorial_runs(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient')
    monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(tmp_path / 'runtime'))
    monkeypatch.delenv('MPLBACKEND', raising=False)
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    where = dict(metadata=dict(path=str(tmp_path)))
    nbclient.NotebookClient(notebook, timeout=900, kernel_name='python3', resources=where).execute()
    check_what_is_shown(notebook)
