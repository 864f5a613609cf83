"""Training by several processes: the launchers, ``dist_train.sh`` and ``slurm_train.sh``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
CT = ROOT / 'configs/consistency_models/ct_1xb96-digits-8x8.py'


def logged(work_dir: Path) -> list[dict]:
    [path] = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_weights(work_dir: Path, iteration: int) -> dict[str, torch.Tensor]:
    return read_checkpoint(work_dir / f'iter_{iteration}.pth')['state_dict']


def run_command(*command: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


WATCH = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmagic_cm.registry import HOOKS

@HOOKS.register_module()
class SaveEachRank(Hook):
    def before_train(self, runner):
        self.labels = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.labels.append(data_batch['labels'])

    def after_train(self, runner):
        state = dict(weights=runner.model.module.state_dict(), labels=torch.cat(self.labels))
        torch.save(state, f'{runner.work_dir}/rank_{get_rank()}.pth')
"""


@pytest.mark.slow
def test_two_processes_train_one_model_and_resume_exactly(tiny_options, tmp_path, equal):
    (tmp_path / 'watching.py').write_text(WATCH)
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{CT}'\n"
        "custom_imports = dict(imports=['mmagic_cm', 'watching'])\n"
        "custom_hooks = [dict(type='CurriculumHook'), dict(type='EMAHook', rates=(0.9,)),\n"
        "                dict(type='SampleGridHook', num_rows=1), dict(type='SaveEachRank')]\n"
    )
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    torchrun += ['--nproc_per_node', '2', 'tools/train.py', str(tmp_path / 'config.py')]
    settings = {'train_cfg.max_iters': 4, 'default_hooks.checkpoint.interval': 2}
    ends = []
    for name, args in [('whole', []), ('resumed', ['--resume', f'{tmp_path}/whole/iter_2.pth'])]:
        command = [*torchrun, *args, '--launcher', 'pytorch', '--work-dir', str(tmp_path / name)]
        done = run_command(*command, *tiny_options(settings), PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        ranks = [torch.load(tmp_path / name / f'rank_{rank}.pth') for rank in range(2)]
        assert equal(ranks[0]['weights'], ranks[1]['weights'])
        assert equal(ranks[0]['weights'], last_weights(tmp_path / name, 4))
        ends.append(ranks)
    whole, resumed = ends
    assert equal(whole[0]['weights'], resumed[0]['weights'])
    for rank in range(2):
        assert torch.equal(whole[rank]['labels'][2 * 8 :], resumed[rank]['labels'])
    assert not torch.equal(whole[0]['labels'], whole[1]['labels'])


@pytest.mark.slow
def test_dist_train_runs_processes_of_the_cpu(tiny_options, tmp_path):
    settings = {'train_cfg.max_iters': 10, 'log_level': 'INFO'}
    command = ['bash', 'tools/dist_train.sh', str(CT.relative_to(ROOT)), '2']
    command += ['--work-dir', str(tmp_path / 'run'), '--auto-scale-lr', *tiny_options(settings)]
    done = run_command(*command, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stderr
    lines = logged(tmp_path / 'run')
    assert [line['step'] for line in lines] == [5, 10]
    assert [line['images_seen'] for line in lines] == [5 * 2 * 8, 10 * 2 * 8]
    [group] = read_checkpoint(tmp_path / 'run/iter_10.pth')['optimizer']['param_groups']
    assert group['initial_lr'] == pytest.approx(1e-3 * 2 * 8 / 96)


STAND_IN = '#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "$SEEN"\n'


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Run a script with programs that only note their arguments."""
    for name in 'srun', 'python':
        path = tmp_path / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(STAND_IN)
        path.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=os.pathsep)
    monkeypatch.setenv('SEEN', str(tmp_path / 'seen'))
    for name in 'NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR', 'GPUS', 'GPUS_PER_NODE':
        monkeypatch.delenv(name, raising=False)

    def run(script: str, *args: str, **environment: str) -> str:
        done = run_command('bash', f'tools/{script}', *args, **environment)
        assert done.returncode == 0, done.stderr
        return ' '.join((tmp_path / 'seen').read_text().split())

    return run


@pytest.mark.parametrize(
    ('environment', 'meeting'),
    [
        ({}, '--standalone'),
        (dict(PORT='123'), '--master_addr 127.0.0.1 --master_port 123'),
        (
            dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='host'),
            '--nnodes 2 --node_rank 1 --master_addr host --master_port 29500',
        ),
    ],
)
def test_dist_train_says_where_processes_meet(stand_in, environment, meeting):
    seen = stand_in('dist_train.sh', 'a.py', '4', '--amp', PYTHON='python', **environment)
    script = ROOT / 'tools/train.py'
    rest = f'--nproc_per_node 4 {script} a.py --launcher pytorch --amp'
    assert seen == f'{ROOT}/tools/launch.py {meeting} {rest}'
    seen = stand_in('dist_test.sh', 'a.py', 'b.pth', '4', '--seed', PYTHON='python', **environment)
    script = ROOT / 'tools/test.py'
    rest = f'--nproc_per_node 4 {script} a.py --launcher pytorch b.pth --seed'
    assert seen == f'{ROOT}/tools/launch.py {meeting} {rest}'


@pytest.mark.parametrize(
    ('environment', 'tasks'),
    [
        ({}, '--gres gpu:8 --ntasks 8 --ntasks-per-node 8 --cpus-per-task 5'),
        (dict(GPUS='4'), '--gres gpu:4 --ntasks 4 --ntasks-per-node 4 --cpus-per-task 5'),
        (
            dict(GPUS='16', CPUS_PER_TASK='9'),
            '--gres gpu:8 --ntasks 16 --ntasks-per-node 8 --cpus-per-task 9',
        ),
    ],
)
def test_slurm_is_asked_for_gpus(stand_in, environment, tasks):
    environment |= dict(PYTHON='python', SRUN_ARGS='--time 1:00')
    seen = stand_in('slurm_train.sh', 'part', 'name', 'a.py', 'dir', '--amp', 'fp16', **environment)
    srun = f'--partition part --job-name name {tasks} --kill-on-bad-exit=1 --time 1:00 python -u'
    options = 'a.py --work-dir dir --launcher slurm'
    assert seen == f'{srun} {ROOT}/tools/train.py {options} --amp fp16'
    args = 'part', 'name', 'a.py', 'b.pth', 'dir', '--seed', '3'
    seen = stand_in('slurm_test.sh', *args, **environment)
    assert seen == f'{srun} {ROOT}/tools/test.py {options} b.pth --seed 3'


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'slurm_train.sh', 'dist_test.sh', 'slurm_test.sh']
)
def test_scripts_say_how_they_are_used(script):
    done = run_command('bash', f'tools/{script}', 'config.py')
    assert done.returncode == 2
    assert f'tools/{script} ' in done.stderr
