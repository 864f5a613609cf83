"""``tools/digits_zoo.py``: equal compute for every mode, and a page of what came of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmagic_cm.apis import load_config
from mmagic_cm.registry import CURRICULA

ROOT = Path(__file__).parents[2]
TOOL = 'tools/digits_zoo.py'
# As docs/training.md has them: forward passes of an iteration.
PASSES = {'edm': 3, 'ct': 4, 'ict': 4, 'cd-l2': 6, 'cd-lpips': 6, 'pd': 5}
BATCH = 96
UNFILLED = 'before\n\n<!-- zoo: begin -->\nold\n<!-- zoo: end -->\n\nafter\n'


@pytest.fixture
def zoo(load_script, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')  # where scripts find each other
    return load_script(TOOL)


@pytest.fixture
def writer(load_script):
    return load_script('tools/digits_zoo_page.py')


@pytest.fixture
def page(tmp_path):
    path = tmp_path / 'page.md'
    path.write_text(UNFILLED)
    return path


@pytest.fixture
def small(zoo, monkeypatch):
    """Small networks and batches, of whose models 20 digits are judged."""

    def load(path):
        config = load_config(path)
        config.model.denoiser.network.model_channels = 8
        config.train_dataloader.batch_size = 8
        config.custom_hooks = [
            hook for hook in config.custom_hooks if hook['type'] != 'SampleGridHook'
        ]
        return config

    monkeypatch.setattr('mmagic_cm.apis.load_config', load)
    # Half of the time: MMEngine formats the config three times and asks what compilers there are.
    monkeypatch.setattr('mmengine.config.Config.pretty_text', 'a config')
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr(zoo, 'PER_CLASS', 2)
    return zoo


class Judge:
    """One that takes no time to learn."""

    class real:  # noqa: N801
        @staticmethod
        def as_dict():
            return dict(accuracy=0.965, frechet_distance=1.05, near_copies=0.1)

    @classmethod
    def judge(cls, images, labels):
        assert images.shape == (len(labels), 8, 8, 1)
        return cls.real


def objective(*stages):
    ends = np.linspace(0, 1, len(stages) + 1)[1:]
    stages = [(float(end), dict(type=name)) for end, name in zip(ends, stages, strict=True)]
    return dict(type='StagedObjective', stages=stages)


def test_every_mode_of_the_digits_is_found(zoo):
    leaves = zoo.find_leaves()
    assert {*PASSES, 'ect', 'ect-uncond', 'ect-ddpmpp'} <= leaves.keys()
    assert all('digits' in path.name for path in leaves.values())


@pytest.mark.parametrize(('mode', 'passes'), PASSES.items())
def test_what_an_iteration_costs(zoo, mode, passes):
    assert zoo.count_stages(load_config(zoo.find_leaves()[mode])) == [(1.0, passes * BATCH)]


def test_stages_cost_what_each_of_them_does(zoo, tiny_config):
    config = load_config(zoo.find_leaves()['ect'])
    stages = zoo.count_stages(config)
    assert stages == [(0.35, 3 * BATCH), (1.0, 4 * BATCH)]
    assert zoo.cost(stages, 600) == (210 * 3 + 390 * 4) * BATCH
    later = (
        'DenoisingScoreMatching',
        'ContinuousConsistencyTraining',
        'ContinuousConsistencyDistillation',
        'TruncatedConsistencyTraining',
    )
    config.model.objective = objective(*later)
    config.model.denoiser.c_noise = 'trigflow'
    config.model.teacher = dict(from_stage=True)
    assert [each for _, each in zoo.count_stages(config)] == [n * BATCH for n in (3, 5, 6, 5)]
    points = dict(type='ConsistencyMidTraining', distance='l2', num_steps=16)
    config.model.objective = points
    assert zoo.count_stages(config) == [(1.0, 16 * 4 * BATCH)]


@pytest.mark.parametrize('stages', [[(1.0, 288)], [(0.45, 288), (0.5, 3072), (1.0, 384)]])
def test_a_budget_is_spent_and_not_exceeded(zoo, stages):
    budget = 210_240
    iterations = zoo.iterations_for(stages, budget)
    assert zoo.cost(stages, iterations) <= budget < zoo.cost(stages, iterations + 1)


def test_what_counts_steps_is_shortened_with_the_run(zoo):
    config = load_config(zoo.find_leaves()['pd'])
    zoo.set_iterations(config, 439)
    # Six stages, of which the last two take twice as long.
    assert config.model.objective.curriculum.steps_per_stage == 54
    assert config.train_cfg.max_iters == 8 * 54
    curriculum = CURRICULA.build(config.model.objective.curriculum)
    (one, last), (two, before) = zoo.samplings(config, Path())
    assert (one['num_steps'], two['num_steps']) == (1, 2)
    assert [path.name for path in (last, before)] == ['iter_432.pth', 'iter_324.pth']
    # That checkpoint is written when the stage of two steps ends.
    assert [curriculum(step, 432)[1] for step in (323, 324, 431)] == [2, 1, 1]

    staged = Config(
        dict(
            model=dict(
                objective=dict(type='StagedObjective', stages=[(1.0, {'warmup_steps': 100})])
            ),
            train_cfg=dict(max_iters=500),
            default_hooks=dict(checkpoint=dict(interval=1)),
        )
    )
    zoo.set_iterations(staged, 250)
    assert staged.model.objective.stages[0][1]['warmup_steps'] == 50
    assert staged.train_cfg.max_iters == 250


def test_modes_are_run_once(small, tmp_path):
    budget = 2 * 8 * 6 * 2
    result = small.run_mode('cd-l2', 3, budget, tmp_path, Judge)
    # The teacher takes four iterations of half the budget, and the student two of the rest.
    assert result['teacher']['mode'] == 'edm'
    assert result['teacher']['iterations'] == 4
    assert result['iterations'] == 2
    assert result['evaluations'] + result['teacher']['evaluations'] == budget
    assert [sample['num_evaluations'] for sample in result['samples']] == [1, 2]
    assert [sample['num_evaluations'] for sample in result['teacher']['samples']] == [35]
    folder = tmp_path / '3' / f'cd-l2-{budget}'
    assert json.loads((folder / 'result.json').read_text()) == result

    def fails(*_):
        raise AssertionError

    for name in ('train', 'judge_samples'):
        setattr(small, name, fails)
    assert small.run_mode('cd-l2', 3, budget, tmp_path, Judge) == result


def result(mode, seed, distances, seconds=10.0, teacher=None, accuracy=0.9, iterations=600):
    return dict(
        mode=mode,
        seed=seed,
        iterations=iterations,
        evaluations=1000,
        seconds=seconds,
        teacher=teacher,
        samples=[
            dict(
                num_evaluations=n,
                accuracy=accuracy,
                frechet_distance=distance,
                frechet_distance_to_kept=2.0,
                near_copies=0.01,
            )
            for n, distance in distances.items()
        ],
    )


@pytest.fixture
def rows():
    teacher = result('edm', 0, {35: 0.2}, seconds=5.0, iterations=300)
    return {
        'ect': [result('ect', 0, {1: 0.4, 2: 0.3}), result('ect', 1, {1: 0.6, 2: 0.3}, 20.0)],
        'cd-l2': [result('cd-l2', 0, {1: 0.55, 2: 0.2}, teacher=teacher)],
        'ct': [result('ct', 0, {1: 3.0, 2: 2.0}, accuracy=None)],
        'edm, the teacher': [teacher],
    }


REAL = dict(accuracy=0.965, frechet_distance=1.05, frechet_distance_to_kept=0.0, near_copies=0.0)


def test_the_table(writer, rows):
    lines = writer.table(rows, {'cd-lpips': 'no VGG16'}, REAL).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert {len(row) for row in cells} == {9}
    names = [row[0] for row in cells[2:]]
    # By the least distance of each.
    assert names[:3] == ['cd-l2', 'cd-l2', 'edm, the teacher']
    assert names[3:7] == ['ect', 'ect', 'ct', 'ct']
    assert names[8] == 'cd-lpips'
    of_cd, of_ect, of_ct = cells[2], cells[5], cells[7]
    assert of_cd[1:5] == ['300 + 600', '2,000', '15', '1']
    assert of_ect[3:7] == ['15 ± 5', '1', '0.900 ± 0.000', '0.50 ± 0.10']
    assert of_ct[5] == '-'
    assert cells[10][1] == 'not run: no VGG16'


def test_what_is_behind_the_usual_mode_everywhere(writer, rows):
    # cd-l2 is in one step, not in two; the teacher takes other numbers.
    assert writer.behind(rows) == ['ct']


def test_the_page_keeps_what_is_around_the_table(writer, rows, page):
    for _ in range(2):
        writer.write_page(page, rows, {}, REAL, 210_240)
        text = page.read_text()
        assert text.startswith('before\n\n<!-- zoo: begin -->\n')
        assert text.endswith('<!-- zoo: end -->\n\nafter\n')
        assert 'old' not in text
        assert text.count('| ect |') == 2
    assert Image.open(page.with_suffix('.png')).width > 500


def test_a_mode_that_cannot_be_run_is_named_and_the_rest_goes_on(
    run_script, monkeypatch, small, page, tmp_path
):
    # Two iterations of iCT; with a teacher of one there is nothing left for an iteration of CD.
    args = ['--seeds', 0, '--budget', 2 * 8 * 4, '--work-dir', tmp_path, '--page', page]
    monkeypatch.setattr('mmagic_cm.metrics.DigitsJudge', Judge)
    code, _, said = run_script(TOOL, *args, '--modes', 'cd-l2', 'ict', PER_CLASS=2)
    assert code == 0, said
    lines = page.read_text().splitlines()
    assert any('| cd-l2 | not run: ' in line for line in lines)
    assert sum('| ict |' in line for line in lines) == 2


def test_what_it_refuses(refusal, monkeypatch, page, tmp_path):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    assert "'etc'" in refusal(TOOL, '--modes', 'etc', '--page', page)
    page.write_text('no marks')
    assert 'page.md' in refusal(TOOL, '--page', page)
    assert 'nothing.md' in refusal(TOOL, '--page', tmp_path / 'nothing.md')
