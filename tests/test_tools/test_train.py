"""``tools/train.py`` as users type it."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torchvision.models import vgg16

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.io.locks import Lock

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
CT = CONFIGS / 'ct_1xb96-digits-8x8.py'
EDM = CONFIGS / 'edm_1xb96-digits-8x8.py'
DIGITS = sorted(CONFIGS.glob('*digits*.py'))
FAST = CT, CONFIGS / 'pd_1xb96-digits-8x8.py'


@pytest.fixture
def command(run_script, tiny_options, monkeypatch, tmp_path):
    """Run the command for a tiny training in this process: exit status, what it says."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    # Formatting a config takes yapf 0.2 s, each time that one is saved.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))

    def run(config, *args: str, work_dir='run', max_iters=2, **settings) -> tuple[int, str]:
        settings = {key.replace('__', '.'): value for key, value in settings.items()}
        settings = {'train_cfg.max_iters': max_iters} | settings
        # MMEngine's logs and message hubs are global, by this name.
        settings['experiment_name'] = uuid.uuid4().hex
        args = [*args, '--work-dir', tmp_path / work_dir, *tiny_options(settings)]
        status, _, said = run_script('tools/train.py', config, *args)
        return status, said

    return run


@pytest.fixture
def train(command, tmp_path):
    """Run it to its end; the work directory."""

    def run(*args, work_dir='run', **settings) -> Path:
        status, said = command(*args, work_dir=work_dir, **settings)
        assert status == 0, said
        return tmp_path / work_dir

    return run


@pytest.fixture
def prepared(load_script, monkeypatch):
    """The config that it would train."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    tool = load_script('tools/train.py')

    def prepare(*args) -> Config:
        monkeypatch.setattr(sys, 'argv', ['tools/train.py', *map(str, args)])
        return tool.prepare_config(tool.parse_args())

    return prepare


def logged(work_dir: Path) -> list[dict]:
    """The JSON lines of all runs in a folder."""
    paths = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def last_weights(work_dir: Path) -> dict[str, torch.Tensor]:
    path = (work_dir / 'last_checkpoint').read_text()
    return read_checkpoint(path)['state_dict']


@pytest.fixture
def files_for(train, tmp_path):
    """Make the files that a leaf needs: a teacher, and a VGG16 of random weights."""

    def make(config: Path) -> dict[str, str]:
        model, settings = Config.fromfile(config).model, {}
        if 'checkpoint' in model.get('teacher', {}):
            teacher = train(EDM, work_dir='teacher') / 'iter_2.pth'
            settings['model__teacher__checkpoint'] = str(teacher)
        distance = model.objective.get('distance')
        if isinstance(distance, dict) and distance.type == 'lpips':
            with torch.device('meta'):
                shapes = vgg16().features.state_dict(prefix='features.')
            weights = {name: 0.05 * torch.randn(old.shape) for name, old in shapes.items()}
            torch.save(weights, tmp_path / 'vgg16.pth')
            settings['model__objective__distance__weights'] = str(tmp_path / 'vgg16.pth')
        return settings

    return make


@pytest.mark.parametrize(
    'config',
    [
        pytest.param(path, id=path.stem, marks=[] if path in FAST else [pytest.mark.slow])
        for path in DIGITS
    ],
)
def test_leaf_trains_resumes_and_stops(train, files_for, config, tmp_path):
    files = files_for(config)
    # As a config of the user's that inherits an installed one.
    name, config = config.name, tmp_path / 'mine.py'
    config.write_text(f"_base_ = 'mmagic_cm::consistency_models/{name}'\n")
    work_dir = train(config, max_iters=20, **files)
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'iter_20.pth')
    train(config, '--resume', max_iters=30, **files)

    # Had the second run started afresh, it would have logged 5 to 20 again.
    lines = logged(work_dir)
    assert [line['step'] for line in lines] == [5, 10, 15, 20, 25, 30]
    # The weighting that sCT and sCD learn makes of a loss one that may be negative.
    lowest = -1e3 if name.startswith(('sct', 'scd')) else 0
    assert all(lowest < line['loss'] < 1e3 for line in lines)
    checkpoint = read_checkpoint(work_dir / 'iter_30.pth')
    assert checkpoint['meta']['iter'] == 30
    assert {path.name for path in work_dir.glob('*.pth')} == {'iter_20.pth', 'iter_30.pth'}
    grids = {path.name for path in (work_dir / 'samples').glob('*.png')}
    assert grids == {'iter_20.png', 'iter_30.png'}


def test_resume_from_a_file(train):
    first = train(CT, work_dir='first', max_iters=5)
    second = train(CT, '--resume', str(first / 'iter_5.pth'), work_dir='second', max_iters=10)
    assert [line['step'] for line in logged(second)] == [10]


def test_a_run_that_is_refused_leaves_the_config_of_the_one_at_work(train, command):
    work_dir = train(CT)
    before = (work_dir / CT.name).read_text()
    with Lock(work_dir / '.lock', work_dir):
        assert command(CT, max_iters=7)[0] == 1
    assert (work_dir / CT.name).read_text() == before


def test_seed_reaches_the_run(prepared):
    assert prepared(CT).randomness.seed == 0
    assert prepared(CT, '--seed', '3').randomness.seed == 3


@pytest.mark.parametrize(
    ('args', 'accumulated', 'expected'),
    [
        ((), 2, 0.5),
        (('--auto-scale-lr',), 1, 0.5 * 8 / 96),
        (('--auto-scale-lr',), 2, 0.5 * 16 / 96),
    ],
)
def test_options_and_auto_scale_lr_reach_the_run(train, args, accumulated, expected):
    work_dir = train(
        CT,
        *args,
        optim_wrapper__optimizer__lr=0.5,
        optim_wrapper__accumulative_counts=accumulated,
    )
    [group] = read_checkpoint(work_dir / 'iter_2.pth')['optimizer']['param_groups']
    assert group['initial_lr'] == pytest.approx(expected)


@pytest.mark.parametrize(
    ('args', 'dtype'),
    [(['--amp'], 'bfloat16'), (['--amp', 'bf16'], 'bfloat16'), (['--amp', 'fp16'], 'float16')],
)
def test_amp_trains_in_half_precision(train, args, dtype):
    # What the network's own layers compute in, not what the command says.
    seen = set()

    def note(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d):
            seen.add(str(output.dtype))

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        work_dir = train(CT, *args, max_iters=5)
    finally:
        handle.remove()
    assert f'torch.{dtype}' in seen
    [line] = logged(work_dir)
    assert line['loss'] > 0
    assert ('loss_scale' in line) == (dtype == 'float16')


def test_a_moved_folder_resumes(train, tmp_path):
    train(CT, work_dir='old', max_iters=5)
    (tmp_path / 'old').rename(tmp_path / 'new')
    lines = logged(train(CT, '--resume', work_dir='new', max_iters=10))
    assert [line['step'] for line in lines] == [5, 10]


def test_validation_can_be_left_out(prepared, tmp_path):
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{CT}'\n"
        "val_cfg = dict(type='ValLoop')\n"
        'val_dataloader = dict(batch_size=1)\n'
        'val_evaluator = dict()\n'
    )
    for args, absent in ([], False), (['--no-validate'], True):
        cfg = prepared(tmp_path / 'config.py', *args)
        assert [cfg[f'val_{name}'] is None for name in ('cfg', 'dataloader', 'evaluator')] == (
            [absent] * 3
        )


@pytest.mark.slow
def test_the_command_resumes_exactly_in_a_new_process(train, tiny_options, tmp_path, equal):
    whole = train(CT, work_dir='whole', max_iters=10, default_hooks__checkpoint__interval=5)
    settings = {
        'train_cfg.max_iters': 10,
        'default_hooks.checkpoint.interval': 5,
        'log_level': 'INFO',
    }
    resumed = tmp_path / 'resumed'
    command = [sys.executable, 'tools/train.py', str(CT.relative_to(ROOT))]
    command += ['--resume', str(whole / 'iter_5.pth'), '--work-dir', str(resumed)]
    command += tiny_options(settings)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert equal(last_weights(resumed), last_weights(whole))
    # Progress as users see it: iterations, time left, loss, iterations per second.
    [line] = [line for line in done.stdout.splitlines() if 'Iter(train)' in line]
    assert all(part in line for part in ('[10/10]', 'eta: ', ' loss: ', 'iterations_per_s: '))
    # The folder holds the config that was used.
    assert Config.fromfile(resumed / CT.name).train_cfg.max_iters == 10
