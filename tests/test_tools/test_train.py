"""``tools/train.py`` as users type it."""

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmagic_cm.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
CT = CONFIGS / 'ct_1xb96-digits-8x8.py'
DIGITS = sorted(CONFIGS.glob('*digits*.py'))
TINY = {
    'model.denoiser.network.model_channels': 8,
    'train_dataloader.batch_size': 8,
    'train_dataloader.dataset.serialize_data': False,
    'default_hooks.logger.interval': 5,
    'default_hooks.runtime_info.interval': 5,
    'custom_hooks.2.num_columns': 1,
    'log_level': 'ERROR',
}


def load_tool():
    spec = importlib.util.spec_from_file_location('tools_train', ROOT / 'tools/train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(settings: dict) -> list[str]:
    return ['--cfg-options', *(f'{key}={value}' for key, value in settings.items())]


@pytest.fixture
def command(monkeypatch):
    """Run the command in this process."""
    tool = load_tool()
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(*args) -> None:
        monkeypatch.setattr(sys, 'argv', ['tools/train.py', *map(str, args)])
        tool.run_cli(tool.main)

    return run


@pytest.fixture
def train(monkeypatch, tmp_path, command):
    """Run a tiny training by the command, in this process."""
    # Formatting a config takes yapf 0.2 s, each time that one is saved.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))

    def run(config, *args: str, work_dir='run', max_iters=2, **settings) -> Path:
        settings = {key.replace('__', '.'): value for key, value in settings.items()}
        settings = TINY | {'train_cfg.max_iters': max_iters} | settings
        # MMEngine's logs and message hubs are global, by this name.
        settings['experiment_name'] = uuid.uuid4().hex
        work_dir = tmp_path / work_dir
        command(config, *args, '--work-dir', work_dir, *options(settings))
        return work_dir

    return run


def logged(work_dir: Path) -> list[dict]:
    """The JSON lines of all runs in a folder."""
    paths = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def last_weights(work_dir: Path) -> dict[str, torch.Tensor]:
    path = (work_dir / 'last_checkpoint').read_text()
    return read_checkpoint(path)['state_dict']


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('config', DIGITS, ids=lambda path: path.stem)
def test_leaf_trains_resumes_and_stops(train, config):
    work_dir = train(config, max_iters=20)
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_20.pth')
    train(config, '--resume', max_iters=30)

    # Had the second run started afresh, it would have logged 5 to 20 again.
    lines = logged(work_dir)
    assert [line['step'] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert all(0 < line['loss'] < 1e3 for line in lines)
    checkpoint = read_checkpoint(work_dir / 'iter_30.pth')
    assert checkpoint['meta']['iter'] == 30
    assert {path.name for path in work_dir.glob('*.pth')} == {'iter_20.pth', 'iter_30.pth'}
    grids = {path.name for path in (work_dir / 'samples').glob('*.png')}
    assert grids == {'iter_20.png', 'iter_30.png'}


def test_resume_from_a_file(train):
    first = train(CT, work_dir='first', max_iters=5)
    second = train(CT, '--resume', str(first / 'iter_5.pth'), work_dir='second', max_iters=10)
    assert [line['step'] for line in logged(second)] == [10]


def test_resume_starts_where_there_is_nothing_yet(train):
    assert [line['step'] for line in logged(train(CT, '--resume', max_iters=5))] == [5]


def test_seed_decides_the_result(train):
    weights = []
    for run, args in enumerate([('--seed', '1'), ('--seed', '2'), ('--seed', '1'), (), ()]):
        weights.append(last_weights(train(CT, *args, work_dir=str(run))))
    first, second, again, default, default_again = weights
    assert equal(first, again)
    assert equal(default, default_again)
    assert not equal(first, second)
    assert not equal(first, default)


def test_options_and_auto_scale_lr_reach_the_run(train):
    rates = []
    for args in (), ('--auto-scale-lr',):
        work_dir = train(CT, *args, work_dir=str(len(rates)), optim_wrapper__optimizer__lr=0.5)
        [group] = read_checkpoint(work_dir / 'iter_2.pth')['optimizer']['param_groups']
        rates.append(group['initial_lr'])
    assert rates == [0.5, pytest.approx(0.5 * 8 / 96)]


def test_work_dir_is_named_after_the_config(monkeypatch, tmp_path):
    tool = load_tool()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', str(CT)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert tool.prepare_config(tool.parse_args()).work_dir == f'work_dirs/{CT.stem}'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='mixed precision needs a GPU')
def test_amp_trains_in_bfloat16(train):
    assert logged(train(CT, '--amp', max_iters=5))[-1]['loss'] > 0


@pytest.mark.parametrize(
    ('args', 'settings', 'message'),
    [
        ((), dict(model__type='ConsistancyModel'), "Did you mean 'ConsistencyModel'?"),
        ((), dict(model__denoiser__network__type='ADMUnet'), "Did you mean 'ADMUNet'?"),
        (
            (),
            dict(model__objective__type='ConsistencyTraning'),
            "Did you mean 'ConsistencyTraining'?",
        ),
        ((), dict(model__sampler__type='Onestep'), "Did you mean 'OnestepSampler'?"),
        ((), dict(custom_hooks__0__type='CuriculumHook'), "Did you mean 'CurriculumHook'?"),
        ((), dict(train_cfg__type='ResumableLoop'), "Did you mean 'ResumableIterLoop'?"),
        (
            (),
            dict(train_dataloader__dataset__pipeline__0__type='PackImages'),
            "Did you mean 'PackImage'?",
        ),
        (
            (),
            dict(model__denoiser__network__model_chanels=8),
            "ADMUNet: got an unexpected keyword argument 'model_chanels'",
        ),
        ((), dict(train_dataloader__dataset__split='val'), "'train' or 'test', not 'val'"),
        ((), dict(model__objective=None), 'no objective'),
        ((), dict(load_from='/nowhere.pth'), 'no checkpoint file /nowhere.pth'),
        (('--resume', '/nowhere.pth'), {}, 'no checkpoint file /nowhere.pth'),
        (('--resume', __file__), {}, __file__),
        (('--seed', '-1'), {}, 'from 0 up, not -1'),
        (('--launcher', 'pytorch'), {}, 'torchrun'),
    ],
)
def test_mistakes_are_answered_with_one_line(train, capsys, monkeypatch, args, settings, message):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(SystemExit) as exit_:
        train(CT, *args, **settings)
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_amp_without_a_gpu_says_so(train, capsys):
    with pytest.raises(SystemExit):
        train(CT, '--amp')
    assert capsys.readouterr().err == 'error: --amp needs a GPU.\n'


@pytest.mark.parametrize(
    ('config', 'args', 'message'),
    [
        ('cm_1xb96-digits-8x8.py', (), "Did you mean '"),
        ('sampling.py', (), 'is for sampling only: it has no train_cfg'),
        ('unscaled.py', ('--auto-scale-lr',), 'needs auto_scale_lr.base_batch_size'),
        ('broken.py', (), 'is no config file that can be read'),
        ('orphan.py', (), 'is no config file that can be read'),
    ],
)
def test_configs_that_do_not_do(command, tmp_path, capsys, config, args, message):
    (tmp_path / 'ct_1xb96-digits-8x8.py').write_text(f"_base_ = '{CT}'\n")
    (tmp_path / 'sampling.py').write_text(f"_base_ = '{ROOT}/configs/_base_/models/digits.py'\n")
    (tmp_path / 'unscaled.py').write_text(f"_base_ = '{CT}'\nauto_scale_lr = dict(_delete_=True)\n")
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    (tmp_path / 'orphan.py').write_text("_base_ = './parent.py'\n")
    with pytest.raises(SystemExit) as exit_:
        command(tmp_path / config, *args)
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line


def run_command(*command: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {'OMP_NUM_THREADS': '1'} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_command_resumes_exactly_in_a_new_process(train, tmp_path):
    whole = train(CT, work_dir='whole', max_iters=10, default_hooks__checkpoint__interval=5)
    settings = TINY | {
        'train_cfg.max_iters': 10,
        'default_hooks.checkpoint.interval': 5,
        'log_level': 'INFO',
    }
    resumed = tmp_path / 'resumed'
    command = [sys.executable, 'tools/train.py', str(CT.relative_to(ROOT))]
    command += ['--resume', str(whole / 'iter_5.pth'), '--work-dir', str(resumed)]
    done = run_command(*command, *options(settings))
    assert done.returncode == 0, done.stderr
    assert equal(last_weights(resumed), last_weights(whole))
    # Progress as users see it: iterations, time left, loss, iterations per second.
    [line] = [line for line in done.stdout.splitlines() if 'Iter(train)' in line]
    assert all(part in line for part in ('[10/10]', 'eta: ', ' loss: ', 'iterations_per_s: '))
    # The folder holds the config that was used.
    assert Config.fromfile(resumed / CT.name).train_cfg.max_iters == 10


def test_the_command_answers_a_wrong_path_without_a_traceback():
    wrong = 'configs/consistency_models/ct_1xb69-digits-8x8.py'
    done = run_command(sys.executable, 'tools/train.py', wrong)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f'error: There is no config file {wrong}. Did you mean ')
    assert str(CT.relative_to(ROOT)) in line


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
def test_two_processes_train_one_model_and_resume_exactly(train, tmp_path):
    (tmp_path / 'watching.py').write_text(WATCH)
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{CT}'\n"
        "custom_imports = dict(imports=['mmagic_cm', 'watching'])\n"
        "custom_hooks = [dict(type='CurriculumHook'), dict(type='EMAHook', rates=(0.9,)),\n"
        "                dict(type='SampleGridHook', num_rows=1), dict(type='SaveEachRank')]\n"
    )
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    torchrun += ['--nproc_per_node', '2', 'tools/train.py', str(tmp_path / 'config.py')]
    settings = TINY | {'train_cfg.max_iters': 4, 'default_hooks.checkpoint.interval': 2}
    ends = []
    for name, args in [('whole', []), ('resumed', ['--resume', f'{tmp_path}/whole/iter_2.pth'])]:
        command = [*torchrun, *args, '--launcher', 'pytorch', '--work-dir', str(tmp_path / name)]
        done = run_command(*command, *options(settings), PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        ranks = [torch.load(tmp_path / name / f'rank_{rank}.pth') for rank in range(2)]
        assert equal(ranks[0]['weights'], ranks[1]['weights'])
        assert equal(ranks[0]['weights'], last_weights(tmp_path / name))
        ends.append(ranks)
    whole, resumed = ends
    assert equal(whole[0]['weights'], resumed[0]['weights'])
    for rank in range(2):
        assert torch.equal(whole[rank]['labels'][2 * 8 :], resumed[rank]['labels'])
    assert not torch.equal(whole[0]['labels'], whole[1]['labels'])
