"""``tools/analysis_tools/plot_run.py``: what it writes and refuses."""

import json

import numpy as np
import pytest
from PIL import Image

TOOL = 'tools/analysis_tools/plot_run.py'


@pytest.fixture
def run(tmp_path):
    """The log and a grid of a run."""
    folder = tmp_path / 'run/1/vis_data'
    folder.mkdir(parents=True)
    lines = [json.dumps(dict(step=step, loss=1 / step)) for step in (10, 20)]
    (folder / 'scalars.json').write_text('\n'.join(lines))
    (tmp_path / 'run/samples').mkdir()
    grid = np.zeros((4, 4, 3), np.uint8)
    Image.fromarray(grid).save(tmp_path / 'run/samples/iter_10.png')
    return tmp_path / 'run'


def test_the_command_writes_a_picture(run_script, run, tmp_path):
    for args, path in [
        ([], run / 'run.png'),
        (['--out', tmp_path / 'new/a.png'], tmp_path / 'new/a.png'),
    ]:
        said = f'The course of the run is drawn in {path}\n'
        assert run_script(TOOL, run, *args) == (0, said, '')
        assert Image.open(path).size[0] > 1000
