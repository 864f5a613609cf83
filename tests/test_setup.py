"""The set-up: Makefile, constraints, packaging, and what may not be in the repository."""

import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
MAX_BYTES = 2 * 2**20


def constraints() -> list[Requirement]:
    lines = (ROOT / 'requirements/constraints.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith('#')]


def pinned() -> dict[str, Version]:
    return {canonicalize_name(r.name): Version(str(r.specifier)[2:]) for r in constraints()}


def direct_requirements() -> list[Requirement]:
    project = PROJECT['project']
    groups = [project['dependencies'], *project['optional-dependencies'].values()]
    return [Requirement(line) for group in groups for line in group]


def make(*args: str) -> subprocess.CompletedProcess:
    # `make test` hands its own flags down; they are not to change what is asked here.
    env = {k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL')}
    command = ['make', '--no-print-directory', *args]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def repository_files() -> list[Path]:
    """Return the tracked files and those that a `git add .` would add."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('not a git checkout')
    paths = {ROOT / os.fsdecode(name) for name in names.split(b'\0') if name}
    return sorted(path for path in paths if path.is_file())


def matches(pattern: re.Pattern) -> list[str]:
    found = []
    for path in repository_files():
        text = path.read_bytes().decode('utf-8', errors='replace')
        for match in pattern.finditer(text):
            line = text.count('\n', 0, match.start()) + 1
            found.append(f'{path.relative_to(ROOT)}:{line}: {match.group()}')
    return found


@pytest.mark.parametrize(
    ('target', 'expected'),
    [
        ('demo', 'python demo/digits_demo.py'),
        ('test', "python -m pytest -n 2 --dist loadgroup -m 'not slow'"),
        ('test-slow', 'python -m pytest -n 2 --dist loadgroup -m slow'),
        ('lint', 'ruff format --check .'),
        ('docs', 'python -m sphinx -b html -W'),
        ('format', 'ruff format .'),
    ],
)
def test_make_targets_set_up_first_and_run_their_command(target, expected):
    # `-W pyproject.toml`: as if it had just changed, so that the set-up is out of date.
    done = make('-n', '-W', 'pyproject.toml', target)
    assert done.returncode == 0, done.stderr
    extras = "-e '.[mmagic,eval,web,docs,dev]'"
    install = done.stdout.find(f'install -q -c requirements/constraints.txt {extras}')
    assert 0 <= install < done.stdout.find(expected), done.stdout


def test_make_without_target_lists_every_target():
    done = make()
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r'^ *make ([a-z-]+) ', done.stdout, re.M))
    tests = {'test', 'test-slow', 'lint'}
    assert listed == {'help', 'setup', 'demo', *tests, 'format', 'docs', 'clean'}


def copy_of_makefile(folder: Path) -> None:
    shutil.copy(ROOT / 'Makefile', folder)
    shutil.copy(ROOT / 'pyproject.toml', folder)
    (folder / 'requirements').mkdir()
    shutil.copy(ROOT / 'requirements/constraints.txt', folder / 'requirements')


def test_make_names_the_python_it_needs(tmp_path):
    copy_of_makefile(tmp_path)
    done = make('-C', str(tmp_path), 'setup', 'PYTHON=no-such-python')
    assert done.returncode != 0
    assert 'none of "no-such-python" is a Python 3.11' in done.stderr
    assert not (tmp_path / '.venv').exists()


def test_make_does_not_take_a_failed_set_up_for_a_finished_one(tmp_path):
    copy_of_makefile(tmp_path)
    (tmp_path / '.venv/bin').mkdir(parents=True)
    python = tmp_path / '.venv/bin/python'
    stamp = tmp_path / '.venv/.mmagic-cm-ready'
    log = tmp_path / 'log'

    # A stand-in for the interpreter, whose `pip install` fails as long as `broken` exists.
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *install*) ! [ -e broken ];; esac\n'
    )
    python.chmod(0o755)
    (tmp_path / 'broken').touch()
    assert make('-C', str(tmp_path), 'setup').returncode != 0
    assert not stamp.exists()

    (tmp_path / 'broken').unlink()
    assert make('-C', str(tmp_path), 'setup').returncode == 0
    assert stamp.read_text().strip() == str(tmp_path)

    log.unlink()
    assert make('-C', str(tmp_path), 'setup').returncode == 0
    assert not log.exists(), 'a set-up that is up to date ran again'

    stamp.write_text('/somewhere/else\n')
    assert make('-C', str(tmp_path), 'setup').returncode == 0
    assert 'install' in log.read_text(), 'a copied .venv was taken for our own'


@pytest.mark.parametrize('failing', [None, 'test', 'test-slow', 'lint'])
def test_ci_runs_all_three_and_fails_if_one_does(tmp_path, failing):
    fake = tmp_path / 'make'
    fake.write_text(
        f'#!/bin/sh\nfor last; do :; done\necho $last >> {tmp_path}/log\n[ $last != {failing} ]\n'
    )
    fake.chmod(0o755)
    (tmp_path / 'chromium').symlink_to(fake)  # as if there were a browser: nothing is installed
    env = os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
    done = subprocess.run([str(ROOT / '.ci/run')], env=env, capture_output=True, text=True)
    assert (done.returncode == 0) == (failing is None)
    ran = (tmp_path / 'log').read_text().split()
    order = ['test', 'test-slow', 'lint']
    assert ran == (order[: order.index(failing) + 1] if failing else order)
    for target in ran:
        assert re.search(rf'make {target}: \d+ s', done.stdout)


def test_constraints_are_exact_versions_named_once():
    names = [canonicalize_name(r.name) for r in constraints()]
    assert sorted(names) == sorted(set(names))
    for requirement in constraints():
        assert re.fullmatch(r'==[\w.!+]+', str(requirement.specifier)), requirement
        assert (requirement.url, requirement.marker) == (None, None), requirement


def test_torch_and_torchvision_are_a_matched_pair():
    torch, torchvision = pinned()['torch'], pinned()['torchvision']
    # torchvision 0.(15 + n).p has been built for torch 2.n.p since n = 0.
    assert (torch.major, torchvision.major) == (2, 0)
    assert torchvision.minor - torch.minor == 15
    assert torchvision.micro == torch.micro
    assert torch.local == torchvision.local, 'from different indices'


def test_constraints_satisfy_every_dependency_and_extra():
    versions = pinned()
    for requirement in direct_requirements():
        name = canonicalize_name(requirement.name)
        assert name in versions, f'{name} has no tested version'
        assert versions[name] in requirement.specifier, f'{requirement} but {versions[name]}'


def test_constraints_cover_what_dependencies_bring_in():
    versions, missing, seen = pinned(), set(), set()
    waiting = [(r.name, frozenset(r.extras)) for r in direct_requirements()]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed
        if canonicalize_name(name) not in versions:
            missing.add(name)
        for requirement in map(Requirement, needed):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({'extra': e}) for e in ('', *extras)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    assert not missing
    assert len(seen) > 50  # MMagic alone brings more


def test_every_folder_of_modules_is_packaged():
    found = set(find_packages(str(ROOT), **PROJECT['tool']['setuptools']['packages']['find']))
    modules = (ROOT / 'mmagic_cm').rglob('*.py')
    folders = {'.'.join(path.relative_to(ROOT).parent.parts) for path in modules}
    assert folders == found, 'a folder without __init__.py is left out of the wheel'


def test_no_file_is_large():
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in repository_files()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_no_registry_host_is_named():
    # In pieces, so that this file does not match itself.
    hosts = '|'.join(map(re.escape, ('pypi', 'pythonhosted', 'deb.debian', 'registry.npmjs')))
    pattern = re.compile(rf'\b(?:{hosts})\.org\b', re.I)
    assert pattern.search('https://files.pythonhosted' + '.org/packages')
    assert matches(pattern) == []


def test_no_path_of_one_machine_is_named():
    # Not `../work/` or `work_dirs/`: a path from the root of the machine.
    pattern = re.compile(rf'(?<![\w.~$}}/-])/(?:{"|".join(("work", "farm"))})/')
    assert pattern.search('see "' + '/'.join(('', 'work', 'main"')))
    assert not pattern.search('../work/main my/work/x')
    assert matches(pattern) == []
