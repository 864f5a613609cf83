"""What is imported, and so waited for: nothing that a command or a sampling does not need."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import Config

from mmagic_cm.checkpoints.writing import write_ours
from mmagic_cm.cli import PRECISIONS
from mmagic_cm.models import consistency_model

ROOT = Path(__file__).parents[1]
COMMANDS = [
    str(path.relative_to(ROOT))
    for folder in ('tools', 'demo')
    for path in sorted((ROOT / folder).rglob('*.py'))
    if 'Parser(' in path.read_text()
]
# Of MMEngine's Runner; and torch's compiler.
OF_TRAINING = (
    *('mmengine.runner', 'mmengine.model', 'mmengine.optim', 'transformers'),
    *('torch.distributed.fsdp', 'torch.distributed.tensor', 'torch._dynamo'),
)


def run(*args) -> list[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()


@pytest.mark.parametrize('command', COMMANDS)
def test_help_imports_neither_torch_nor_mmengine(command):
    code = """
import runpy, sys
sys.argv = [sys.argv[1], '--help']
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print('imported:', *({'torch', 'mmengine'} & sys.modules.keys()))
"""
    *said, imported = run('-c', code, command)
    assert said[0].startswith('usage: ')
    assert '--debug' in ' '.join(said)
    assert imported.split() == ['imported:']


def test_sampling_imports_nothing_of_training(tmp_path, build_model, tiny_config):
    code = """
import sys
import torch
before = {*sys.modules}
from mmagic_cm.apis import generate, init_model
images, _ = generate(init_model(sys.argv[1], device='cpu'), 2)
print(len(images), *sys.modules.keys() - before)
"""
    weights = build_model().denoiser.network.state_dict()
    write_ours(weights, Config(dict(model=tiny_config())), tmp_path / 'x.pth')
    [said] = run('-c', code, tmp_path / 'x.pth')
    count, *imported = said.split()
    assert count == '2'
    assert {*imported} & {*OF_TRAINING} == set()


def test_the_precisions_of_the_commands_are_the_model_s():
    assert {*PRECISIONS} == {*consistency_model.PRECISIONS}
