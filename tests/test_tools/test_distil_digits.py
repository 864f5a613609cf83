"""From one EDM teacher of the digits to one-step students, by the commands that users type.

Shorter than the configs say; both bounds are those of a student that has learnt something: the
undistilled teacher in one step draws class means, accuracy 1.0 and Fréchet distance about 6.9 when
it is trained to the end.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In one process, for the teacher's sake.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('distil')]


def run(tool: str, mode: str, *args, **options) -> None:
    config = f'configs/consistency_models/{mode}_1xb96-digits-8x8.py'
    options |= {'log_level': 'ERROR', 'default_hooks.checkpoint.max_keep_ckpts': 1}
    settings = [f'{key}={value}' for key, value in options.items()]
    command = [sys.executable, tool, config, *map(str, args), '--cfg-options', *settings]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('edm')
    run('tools/train.py', 'edm', '--work-dir', work_dir, **{'train_cfg.max_iters': 500})
    return work_dir / 'iter_500.pth'


@pytest.mark.parametrize(
    ('mode', 'iterations', 'options', 'least_accuracy', 'largest_distance'),
    [
        ('cd-l2', 300, {}, 0.93, 2.0),
        # Three halvings: 8, 4, 2, 1 steps; the last two stages take twice as long.
        (
            'pd',
            180,
            {
                'model.objective.curriculum.start_scales': 8,
                'model.objective.curriculum.steps_per_stage': 30,
            },
            0.93,
            3.0,
        ),
    ],
)
def test_one_step_digits(
    mode, iterations, options, least_accuracy, largest_distance, teacher, tmp_path
):
    options = {'model.teacher.checkpoint': teacher, 'train_cfg.max_iters': iterations} | options
    run('tools/train.py', mode, '--work-dir', tmp_path, **options)
    checkpoint, out = tmp_path / f'iter_{iterations}.pth', tmp_path / 'figures.json'
    run('tools/test.py', mode, checkpoint, '--work-dir', tmp_path, '--out', out)
    figures = json.loads(out.read_text())
    print(mode, figures)
    assert figures['digits/accuracy'] >= least_accuracy
    assert figures['digits/frechet_distance'] <= largest_distance
    assert figures['digits/near_copies'] < 0.05
