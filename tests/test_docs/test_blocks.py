"""Commands and Python blocks of README and the documents do what they say.

Every command is parsed by the script that it calls. Those that need nothing but a digits model
are run, training with two iterations. Every Python block is executed, unless its mark says that it
needs what a test has not. A mark is an HTML comment on the line before a block:

* ``<!-- needs: gpu -->``, or ``download``, ``data``, ``page`` (a served one), ``wheel`` (run by
  ``test_wheel.py``), ``mmagic`` (by ``test_mmagic_inferencer.py``);
* ``<!-- file: NAME -->``: the block is (a part of) a file that the reader saves under this name.
"""

import argparse
import re
import runpy
import shlex
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmagic_cm.apis import generate, init_model
from mmagic_cm.checkpoints.released import RELEASED
from mmagic_cm.datasets.digits import load_split
from mmagic_cm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {'gpu', 'download', 'data', 'wheel', 'page', 'mmagic'}
# Chinese pages repeat the blocks of the English ones.
PAGES = [
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    ROOT / 'configs/consistency_models/README.md',
    *sorted((ROOT / 'docs').glob('*.md')),
]
_FENCE = re.compile(
    r'(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```', re.M | re.S
)
_INDENTED = re.compile(r'(?<=\n\n)(?: {4}\S[^\n]*\n)+')
_INLINE = re.compile(r'`((?:python (?:tools|demo)/|make )[^`]+)`')


class Block(NamedTuple):
    """A block of a page, with what its mark says."""

    page: Path
    kind: str  # 'python', 'bash', or '' for an indented one
    text: str
    line: int
    needs: str = ''
    file: str = ''

    @property
    def name(self) -> str:
        """Page and line."""
        return f'{self.page.relative_to(ROOT)}:{self.line}'


class Command(NamedTuple):
    """A shell command of a page: where it stands, and its words without comments."""

    block: Block
    words: list[str]

    @property
    def name(self) -> str:
        """Where it stands, and what it is."""
        return f'{self.block.name} {" ".join(self.words)}'


def blocks(page: Path) -> list[Block]:
    """All fenced and indented blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        mark = dict(re.findall(r'(needs|file): (\S+)', match['mark'] or ''))
        line = text.count('\n', 0, match.start('text')) + 1
        found.append(Block(page, match['kind'], match['text'], line, **mark))
    outside = _FENCE.sub(lambda match: re.sub(r'[^\n]', '', match[0]), text)
    for match in _INDENTED.finditer(outside):
        code = re.sub('^ {4}', '', match[0], flags=re.M)
        found.append(Block(page, '', code, outside.count('\n', 0, match.start()) + 1))
    return sorted(found, key=lambda block: block.line)


def commands(page: Path) -> list[Command]:
    """All shell commands of a page: of its blocks, and those within sentences."""
    found = []
    for block in blocks(page):
        if block.kind not in ('bash', ''):
            continue
        for line in block.text.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(Command(block, words))
    text = page.read_text()
    for match in _INLINE.finditer(_FENCE.sub('', text)):
        where = Block(page, 'inline', match[1], text.count('\n', 0, text.find(match[1])) + 1)
        found.append(Command(where, shlex.split(match[1])))
    return found


CONFIGS = ROOT / 'configs/consistency_models'
DIGITS = 'configs/consistency_models/ect_1xb96-digits-8x8.py'
CKPT = 'work_dirs/demo/iter_600.pth'
UNCONDITIONAL = 'configs/consistency_models/ect_1xb96-digits-uncond-8x8.py'
UNCONDITIONAL_CKPT = 'uncond.pth'
COMMANDS = [command for page in PAGES for command in commands(page)]
PYTHON = [block for page in PAGES for block in blocks(page) if block.kind == 'python']
# Programs that are not ours, whose arguments are not looked at.
OTHERS = {'pip', 'mim', 'source', 'export', 'tensorboard', '.venv/bin/pre-commit', '.ci/run'}


def ids(items: list) -> list[str]:
    return [item.name for item in items]


def script_of(command: Command) -> tuple[Path | None, list[str]]:
    """The Python script of ours that a command runs, and its arguments."""
    words = [re.sub(r'^\[|\]$', '', word) for word in command.words]
    words = [word for word in words if '=$(' not in word and word != '...']
    if command.words[0] == '...':  # options of tools/sample.py, as the page says
        return ROOT / 'tools/sample.py', [DIGITS, CKPT, '--num-samples', '1', '--out', 'x', *words]
    for i, word in enumerate(words):
        if word.endswith('.py') and words[0] in ('python', 'torchrun'):
            return ROOT / word.replace('$MIM/', ''), words[i + 1 :]
    return None, words


class Parsed(BaseException):
    """Raised in the place of what a script does after it has read its arguments."""


def parse(script: Path, arguments: list[str], monkeypatch) -> None:
    """Let a script read the arguments, and stop it then; it exits where it refuses them."""

    def parse_args(parser, *args):
        read(parser, *args)
        raise Parsed

    read = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'path', [str(script.parent), *sys.path])
    monkeypatch.setattr(sys, 'argv', [str(script), *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name='__main__')


def test_marks_are_known():
    marks = [block.needs for page in PAGES for block in blocks(page) if block.needs]
    assert set(marks) <= NEEDS
    assert marks


@pytest.mark.parametrize('command', COMMANDS, ids=ids(COMMANDS))
def test_command_is_parsed_by_its_script(command, monkeypatch):
    script, arguments = script_of(command)
    program = command.words[0]
    if script is not None:
        assert script.is_file(), script
        parse(script, arguments, monkeypatch)
    elif program == 'make':
        targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.M)
        assert arguments[1] in targets
    elif program == 'bash':
        assert (ROOT / arguments[1]).is_file()
    else:
        assert program in OTHERS or re.match(r'\w+=', program) or program == 'python', program
    for word in arguments:
        if re.match(r'(\$MIM/)?configs/[\w/.-]+$', word):
            assert (ROOT / word.replace('$MIM/', '')).exists(), word
        if re.match(r'(cd|ct|edm)_[a-z0-9]+_', word) and '.' not in word:
            assert word in RELEASED, word


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> Path:
    """A folder like the checkout after ``make demo``, with a model that was not trained."""
    folder = tmp_path_factory.mktemp('world')
    for part in ('configs', 'tools', 'demo'):
        (folder / part).symlink_to(ROOT / part)
    teacher = Config.fromfile(CONFIGS / 'cd-l2_1xb96-digits-8x8.py').model.teacher.checkpoint
    torch.manual_seed(0)
    for path, config in ((CKPT, DIGITS), (teacher, DIGITS), (UNCONDITIONAL_CKPT, UNCONDITIONAL)):
        model = MODELS.build(Config.fromfile(ROOT / config).model)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state_dict=model.state_dict()), folder / path)
    for block in (block for page in PAGES for block in blocks(page) if block.file):
        with open(folder / block.file, 'a') as file:
            file.write(block.text)
    return folder


def runs_here(command: Command) -> bool:
    """Whether a command needs nothing but the digits: no placeholder, no download, no server."""
    script, arguments = script_of(command)
    if script is None or command.block.needs or command.words[0] != 'python':
        return False
    names = {'train.py', 'sample.py', 'edit.py', 'test.py', 'download_checkpoints.py'}
    known = script.name in names and not any('$' in word for word in command.words)
    placeholder = any(re.search(r'(^|[=/])[A-Z_]{3,}\b', word) for word in arguments)
    fetches = any(word in RELEASED for word in arguments)
    of_digits = any('digits' in word or word.startswith('my_') for word in arguments)
    return known and not placeholder and not fetches and (of_digits or not arguments)


RUNNING = [command for command in COMMANDS if runs_here(command)]


@pytest.mark.slow
@pytest.mark.xdist_group('blocks')
@pytest.mark.parametrize('command', RUNNING, ids=ids(RUNNING))
def test_command_runs(command, world, run_script, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(world / 'cache'))
    # What a page trained a moment ago, here for two iterations.
    last = r'^(work_dirs/(?!demo/)\w+/iter)_\d+'
    words = [re.sub(last, r'\1_2', word) for word in command.words[1:]]
    if words[0] in ('tools/train.py', 'tools/test.py'):
        words += [] if '--cfg-options' in words else ['--cfg-options']
        words += [f'experiment_name={uuid.uuid4().hex}']  # of MMEngine's global logs
    if words[0] == 'tools/train.py':
        words += ['train_cfg.max_iters=2', 'train_dataloader.batch_size=8']
    status, _, said = run_script(*words)
    assert status == 0, said


def names_that_pages_leave_open() -> dict:
    """What blocks call by name and the reader brings: files of a model, the model, pictures."""
    images, _ = load_split('test')
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    image = torch.from_numpy(images[:1]).permute(0, 3, 1, 2) / 127.5 - 1
    return dict(
        CONFIG=UNCONDITIONAL,
        CKPT=UNCONDITIONAL_CKPT,
        generate=generate,
        model=init_model(DIGITS, CKPT),
        picture=Image.fromarray(images[0, ..., 0]),
        mask=Image.fromarray(mask),
        image=image,
        score=lambda ts: abs(ts[1] - 12.0),  # of a search over timesteps, least at 12
        known=(torch.from_numpy(mask)[None, None] == 255).float(),
        small=torch.nn.functional.avg_pool2d(image, 4),
    )


def is_config(block: Block) -> bool:
    return block.text.lstrip().startswith('_base_')


EXECUTED = [
    block for block in PYTHON if not block.needs and not block.file and not is_config(block)
]
WRITTEN = [block for block in PYTHON if is_config(block)]


@pytest.mark.parametrize(
    'page', sorted({block.page for block in EXECUTED}), ids=lambda page: str(page.relative_to(ROOT))
)
def test_python_blocks_run(page, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(world / 'cache'))
    # Each block goes on from those above it.
    names = names_that_pages_leave_open()
    for block in EXECUTED:
        if block.page == page:
            exec(compile(block.text, block.name, 'exec'), names)


@pytest.mark.parametrize('block', WRITTEN, ids=ids(WRITTEN))
def test_config_block_is_a_config(block, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(str(world))
    path = world / (block.file or 'block.py')
    if not block.file:
        path.write_text(block.text.replace("'../", f"'{ROOT / 'configs'}/"))
    assert MODELS.build(Config.fromfile(path).model).objective is not None


def test_chinese_readme_follows_the_english_one():
    english, chinese = ROOT / 'README.md', ROOT / 'README_zh-CN.md'

    def code(page: Path) -> list[str]:
        return [re.sub(r' *#.*', '', block.text) for block in blocks(page) if block.kind]

    def headings(page: Path) -> list[int]:
        text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S)
        return [len(marks) for marks in re.findall(r'^(#+) ', text, re.M)]

    def table_rows(page: Path) -> int:
        return len(re.findall(r'^\|', page.read_text(), re.M))

    assert code(chinese) == code(english)
    assert headings(chinese) == headings(english)
    assert table_rows(chinese) == table_rows(english)
