"""``tools/model_converters/posthoc_ema.py`` as users type it."""

import json
import uuid
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmagic_cm.apis import init_model, load_config
from mmagic_cm.checkpoints import Checkpoint, sampling_config
from mmagic_cm.checkpoints.writing import write_ours
from mmagic_cm.engine.posthoc_ema import posthoc_coefficients, snapshot_path

TOOL = 'tools/model_converters/posthoc_ema.py'
CONFIG = Path(__file__).parents[2] / 'configs/consistency_models/ect_1xb96-digits-8x8.py'


@pytest.fixture(scope='module')
def snapshots(untrained, tmp_path_factory) -> tuple[Path, dict]:
    """A work directory with snapshots of random weights, and these by time and width."""
    folder, weights = tmp_path_factory.mktemp('run'), {}
    config = load_config(CONFIG)
    for seed, (step, width) in enumerate([(2, 0.05), (2, 0.1), (10, 0.05), (10, 0.1)]):
        weights[step, width] = untrained(CONFIG, seed).denoiser.network.state_dict()
        path = snapshot_path(folder, step, width)
        write_ours(weights[step, width], sampling_config(config), path, iter=step)
    config.dump(folder / 'config.py')
    return folder, weights


def test_one_average(run_script, snapshots, tmp_path):
    folder, weights = snapshots
    out = tmp_path / 'x.pth'
    code, said, _ = run_script(TOOL, folder, '--sigma-rel', '0.07', '--out', out)
    assert (code, said) == (0, f'{out} is written\n')
    shares = posthoc_coefficients([*weights], (10, 0.07))
    written = init_model(out, device='cpu').denoiser.network.state_dict()
    for name, weight in written.items():
        parts = [share * w[name] for share, w in zip(shares, weights.values(), strict=True)]
        torch.testing.assert_close(weight, sum(parts).float(), rtol=1e-4, atol=1e-5)
    assert Checkpoint(out).meta['ema'] == 'sigma_rel=0.07'
    assert Checkpoint(out).meta['iter'] == 10


def test_a_sweep_is_judged_and_drawn(run_script, snapshots, tmp_path):
    out = tmp_path / 'sweep'
    code, said, warned = run_script(
        *(TOOL, snapshots[0], '--sigma-rel', '0.05', '0.2', '--out', out),
        *('--metric', 'frechet_distance', '--num-samples', '40'),
        *('--cfg-options', f'experiment_name={uuid.uuid4().hex}'),
    )
    assert code == 0
    assert warned.startswith('warning: 0.2 is outside of 0.05 to 0.15')
    found = []
    for width in '0.05', '0.2':
        figures = json.loads((out / f'sigma_rel_{width}.json').read_text())
        found.append(figures['digits/frechet_distance'])
        assert f'sigma_rel {width}: digits/frechet_distance {found[-1]:.5g}' in said
        assert figures['about']['checkpoint'] == str(out / f'sigma_rel_{width}.safetensors')
    assert found[0] != found[1]
    assert Image.open(out / 'sigma_rel.png').width > 500


def test_what_it_refuses(refusal, snapshots, tmp_path):
    folder, out = snapshots[0], tmp_path / 'x.pth'
    assert 'snapshot_interval' in refusal(TOOL, tmp_path, '--sigma-rel', '0.07', '--out', out)
    assert 'x.png' in refusal(TOOL, folder, '--sigma-rel', '0.07', '--out', tmp_path / 'x.png')
    assert 'a folder' in refusal(TOOL, folder, '--sigma-rel', '0.07', '0.1', '--out', out)
    assert '0.289' in refusal(TOOL, folder, '--sigma-rel', '7', '--out', out)
    assert [*tmp_path.iterdir()] == []
