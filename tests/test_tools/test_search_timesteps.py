"""``tools/search_timesteps.py`` as users type it."""

import json
import re
import uuid
from pathlib import Path

import pytest
import torch

from mmagic_cm.apis import generate, init_model
from mmagic_cm.datasets.digits import load_split
from mmagic_cm.metrics import DigitsJudge

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/consistency_models/ect_1xb96-digits-8x8.py'
METRIC = 'digits/frechet_distance'
FAST = ('--num-samples', '40', '--num-scales', '5')


@pytest.fixture
def command(run_script):
    """Run the command in this process: exit status, what it prints, what it complains of."""

    def run(*args) -> tuple[int, str, str]:
        # MMEngine's logs are global, by this name.
        options = '--cfg-options', f'experiment_name={uuid.uuid4().hex}'
        return run_script('tools/search_timesteps.py', *args, *options)

    return run


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory, untrained) -> list[Path]:
    """Two models of random weights."""
    paths = [tmp_path_factory.mktemp('run') / 'iter_1.pth' for _ in range(2)]
    for seed, path in enumerate(paths):
        torch.save(dict(state_dict=untrained(CONFIG, seed).state_dict()), path)
    return paths


def distance(ts, num_samples: int, num_scales: int, checkpoint, config=CONFIG, seed=0) -> float:
    """The figure of a candidate, by another way."""
    labels = load_split('train')[1][:num_samples]
    sampler = dict(type='MultistepSampler', ts=ts, num_scales=num_scales) if ts else None
    images, _ = generate(init_model(config, checkpoint), len(labels), labels, sampler, seed)
    return DigitsJudge().judge(images, labels).frechet_distance


def read_cache(folder: Path) -> list[dict]:
    [path] = folder.glob('search_timesteps_*.json')
    return json.loads(path.read_text())['tried']


def proposed(out: str) -> tuple[int, ...]:
    """The indices of the line for the config."""
    [text] = re.findall(r"sampler=dict\(type='MultistepSampler', ts=\((.*)\), num_scales", out)
    return tuple(map(int, text.split(',')))


def test_a_search_goes_on_and_remembers(command, checkpoints, tmp_path):
    args = (CONFIG, checkpoints[0], '--work-dir', tmp_path, *FAST)
    _, out, _ = command(*args, '--seed', '3')
    tried = read_cache(tmp_path)
    assert [entry['sampler']['type'] for entry in tried] == ['OnestepSampler'] + 3 * [
        'MultistepSampler'
    ]
    # The same noise for all of them: each figure is that of a sampling of its own.
    for entry in tried[::3]:
        ts = entry['sampler'].get('ts')
        expected = distance(ts, 40, 5, checkpoints[0], seed=3)
        assert entry['figures'][METRIC] == pytest.approx(expected, rel=1e-3)
    own, *rest = (entry['figures'][METRIC] for entry in tried)
    if own > min(rest):
        assert proposed(out) == tuple(
            min(tried[1:], key=lambda e: e['figures'][METRIC])['sampler']['ts']
        )
    else:
        assert 'keep it' in out
    assert out.count(METRIC) >= 5

    # Interrupted after two candidates, it judges the rest only; so does a metric of another name.
    [path] = tmp_path.glob('search_timesteps_*.json')
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(content, tried=content['tried'][:3])))
    _, out_again, _ = command(*args, '--seed', '3')
    assert out_again.count('tried before)') == 3
    assert read_cache(tmp_path) == tried
    _, out, _ = command(*args, '--seed', '3', '--metric', 'accuracy')
    best = max(entry['figures']['digits/accuracy'] for entry in tried[1:])
    assert f'digits/accuracy {best:.5g} in 2 evaluations' in out
    assert read_cache(tmp_path) == tried


def test_what_was_tried_with_another_model_does_not_count(command, checkpoints, tmp_path):
    args = ('--work-dir', tmp_path, '--num-samples', 40, '--num-scales', 3)
    for checkpoint in checkpoints:
        assert 'tried before' not in command(CONFIG, checkpoint, *args)[1]
    first, second = sorted(tmp_path.glob('search_timesteps_*.json'))
    assert json.loads(first.read_text())['tried'] != json.loads(second.read_text())['tried']
    # Nor where somebody gives a file the name of another's.
    content = first.read_text()
    first.write_text(second.read_text())
    second.write_text(content)
    status, _, said = command(CONFIG, checkpoints[0], *args)
    assert (status, 'another model' in said) == (1, True)
    for path in (first, second):
        path.write_text('{')
    status, _, said = command(CONFIG, checkpoints[0], *args)
    assert (status, '.json' in said) == (1, True)


def test_the_configs_own_is_judged_first(command, checkpoints, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text(
        f"_base_ = '{CONFIG}'\n"
        "model = dict(sampler=dict(type='MultistepSampler', ts=(0, 1, 5), num_scales=6))\n"
    )
    _, out, _ = command(config, checkpoints[0], '--work-dir', tmp_path, '--num-samples', 40)
    assert "config's own MultistepSampler" in out
    assert read_cache(tmp_path)[0]['sampler']['ts'] == [0, 1, 5]
