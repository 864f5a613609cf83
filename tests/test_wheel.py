"""The newcomer's path: build the wheel, install it, train, sample, edit, open the page.

What is run is the text of ``docs/get_started.md``, in an environment that has the dependencies of
this one and no checkout. openmim is not among them: what it would run is looked up as it does.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PARTS = ('configs', 'tools', 'demo', 'requirements')

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('wheel')]


def run(command: list, folder: Path, **settings) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, **settings
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """Copy what the build reads: it would leave its products in the checkout."""
    folder = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__', '*.py[cod]', 'work_dirs')
    for part in ('mmagic_cm', *PARTS):
        shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    run_of_tutorial = folder / 'demo/work_dirs/tutorial'
    run_of_tutorial.mkdir(parents=True)
    (run_of_tutorial / 'config.py').touch()
    return folder


@pytest.fixture(scope='module')
def built(source, tmp_path_factory) -> Path:
    """The folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp('dist')
    run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, source], source)
    return folder


@pytest.fixture(scope='module')
def wheel(built) -> Path:
    return next(built.glob('*.whl'))


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel."""
    folder = tmp_path_factory.mktemp('installed') / 'venv'
    venv.create(folder, symlinks=True)
    python = folder / 'bin/python'
    packages = Path(
        run([python, '-c', 'import site; print(site.getsitepackages()[0])'], folder).strip()
    )
    # A .pth file in a folder that a .pth file names is not read: an editable install of ours in
    # this environment stays out.
    (packages / 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')
    pip = [sys.executable, '-m', 'pip', '--python', python, 'install', '-q']
    run([*pip, '--no-deps', '--no-index', wheel], folder)
    return python


@pytest.fixture(scope='module')
def package(python, tmp_path_factory) -> Path:
    """Where the environment has our package."""
    code = 'import mmagic_cm; print(mmagic_cm.__path__[0])'
    return Path(run([python, '-c', code], tmp_path_factory.mktemp('elsewhere')).strip())


def test_wheel_holds_the_package_with_its_mim_folder_and_nothing_else(wheel, source):
    names = {name for name in ZipFile(wheel).namelist() if not name.endswith('/')}
    assert {re.sub(r'-.*\.dist-info', '', name.split('/')[0]) for name in names} == {'mmagic_cm'}

    expected = {'mmagic_cm/.mim/model-index.yml'}
    for part in PARTS:
        files = [p.relative_to(source) for p in (source / part).rglob('*') if p.is_file()]
        assert files
        expected |= {f'mmagic_cm/.mim/{p}' for p in files if 'work_dirs' not in p.parts}
    assert {name for name in names if '/.mim/' in name} == expected
    # Data files of the package come along, too.
    own = {str(p.relative_to(source)) for p in (source / 'mmagic_cm').rglob('*') if p.is_file()}
    assert own <= names


def test_shell_scripts_stay_executable(wheel):
    info = ZipFile(wheel).getinfo('mmagic_cm/.mim/tools/dist_train.sh')
    mode = (ROOT / 'tools/dist_train.sh').stat().st_mode
    assert (info.external_attr >> 16) & 0o111 == mode & 0o111


def test_source_distribution_holds_what_the_wheel_is_built_from(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    mim = 'mmagic_cm/.mim'
    assert {f'{mim}/model-index.yml', f'{mim}/configs/_base_/default_runtime.py'} <= names
    # Some of the tests would come along by themselves: without the others they do not run.
    assert not [name for name in names if re.search('__pycache__|work_dirs|^tests', name)]


def test_environment_runs_the_wheel_and_not_the_checkout(python, package):
    assert package.is_relative_to(python.parents[1])


def test_mim_finds_scripts_and_configs(package):
    # openmim 0.3.9: `mim train` runs this file, with the one file of the package that has the
    # config's name; it adds arguments of its own where the script's help has the word `--gpus`.
    assert '--gpus' not in (package / '.mim/tools/train.py').read_text()
    for config in (ROOT / 'configs/consistency_models').glob('*.py'):
        assert len([*package.rglob(config.name)]) == 1


def test_hub_reads_configs_and_builds_models(python, tmp_path):
    text = (ROOT / 'docs/get_started.md').read_text()
    block = re.search(r'<!-- needs: wheel -->\n```python\n(.*?)```', text, re.S)[1]
    name = 'mmagic_cm::consistency_models/consistency_models_8xb256-imagenet1k-onestep-64x64.py'
    (tmp_path / 'mine.py').write_text("_base_ = 'mmagic_cm::_base_/models/digits.py'\n")
    code = f"""{block}
from mmengine.config import Config
assert type(model).__name__ == 'ConsistencyModel', type(model)
assert config.model.objective.type == 'StagedObjective'
assert get_config('{name}', pretrained=True).model_path.endswith('/cd_imagenet64_lpips.pt')
assert Config.fromfile('mine.py').model.type == 'ConsistencyModel'
"""
    run([python, '-c', code], tmp_path)


def newcomers_path() -> str:
    """The commands of the section of ``docs/get_started.md`` about the installed package."""
    text = (ROOT / 'docs/get_started.md').read_text()
    section = text.partition('<!-- newcomer -->')[2].partition('<!-- end newcomer -->')[0]
    return '\n'.join(re.findall(r'^```bash\n(.*?)^```', section, re.M | re.S))


@pytest.fixture(scope='module')
def walked(python, tmp_path_factory) -> Path:
    """Walk the path, with six iterations of training in place of 600; the folder it leaves."""
    folder = tmp_path_factory.mktemp('newcomer')
    path = f'{python.parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': '', 'PIP_NO_INDEX': '1'}
    commands = newcomers_path()
    assert commands.count('600') == 2, commands
    run(['bash', '-euc', commands.replace('600', '6')], folder, env=env)
    return folder


def test_newcomer_trains(walked):
    assert (walked / 'work_dirs/digits/iter_6.pth').is_file()
    assert (walked / 'work_dirs/digits/samples/iter_6.png').is_file()


def test_newcomer_samples_and_edits(walked):
    with Image.open(walked / 'digits.png') as grid:
        assert grid.width > 80
    assert len([*(walked / 'edited').glob('*.png')]) >= 3


def test_newcomer_opens_the_page(python, package, walked):
    pytest.importorskip('gradio')
    command = [python, package / '.mim/demo/gradio_demo.py']
    env = {**os.environ, 'PYTHONPATH': '', 'GRADIO_ANALYTICS_ENABLED': 'False'}
    with (walked / 'page.log').open('w+') as log:
        page = subprocess.Popen(command, cwd=walked, env=env, stdout=log, stderr=log)
        try:
            address = address_of(page, walked / 'page.log')
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert answer.status == 200
                assert 'gradio' in answer.read().decode().lower()
        finally:
            page.terminate()
            page.wait(30)


def address_of(page: subprocess.Popen, log: Path, seconds: float = 180) -> str:
    """Wait until the page says where it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and page.poll() is None:
        if found := re.search(r'The page is at (http://\S+)', log.read_text()):
            return found[1]
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])
