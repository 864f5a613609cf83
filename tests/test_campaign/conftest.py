"""A warm process that runs commands, and a folder of hostile files for them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 2**20
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', LOCAL_RANK='0', PYTHONSAFEPATH='1'
)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Its exit status, or minus the signal that killed it.
        end: None, or why it was killed.
        peak: Bytes of memory that it took.
        out: What it printed.
        err: What it complained of.
    """

    status: int
    end: str | None
    peak: int
    out: str
    err: str


class Commands:
    """The client of ``server.py``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = os.environ | ENVIRONMENT | dict(MMAGIC_CM_CACHE=str(folder / 'cache'))
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name('server.py'), ROOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )
        assert self._answer() == 'warm'

    def _ask(self, **request):
        print(json.dumps(request), file=self._server.stdin)
        return self._answer()

    def _answer(self):
        line = self._server.stdout.readline()
        assert line, 'the server of the campaign has died'
        return json.loads(line)

    def start(
        self,
        argv: Sequence[str],
        folder: Path | None = None,
        *,
        largest_file: int | None = None,
        moment: str | None = None,
        countdown: int = 0,
        beats: Path | None = None,
        **environment: str,
    ) -> int:
        """Start a command in a folder of its own; returns its process.

        Args:
            argv: A script of the repository, or a module, and its arguments.
            folder: Default: a new one.
            largest_file: Bytes; what writes a longer one fails.
            moment: Of a save, at which it is killed the ``countdown``-th time.
            countdown: See ``moment``.
            beats: A file that grows by a byte whenever an iteration of a training begins.
            **environment: Variables.
        """
        folder = folder or Path(tempfile.mkdtemp(dir=self.folder))
        script, *arguments = argv
        script = str(ROOT / script) if script.endswith('.py') else script
        return self._ask(
            argv=[script, *map(str, arguments)],
            folder=str(folder),
            environment=environment,
            largest_file=largest_file,
            moment=moment,
            countdown=countdown,
            beats=None if beats is None else str(beats),
        )

    def wait(
        self, process: int, busy: float = 60, idle: float = 8, most: int = 1024 * MIB
    ) -> Ended:
        """Wait for a command; one that does not end by itself is killed.

        Args:
            process: From :meth:`start`.
            busy: Seconds that it may compute.
            idle: Seconds that it may do nothing.
            most: Bytes of memory that it may take.
        """
        return Ended(**self._ask(process=process, busy=busy, idle=idle, most=most))

    def run(self, argv: Sequence[str], folder: Path | None = None, **settings) -> Ended:
        """Start a command and wait for it."""
        return self.wait(self.start(argv, folder, **settings))

    def close(self) -> None:
        """End the server."""
        self._server.stdin.close()
        self._server.wait()


@pytest.fixture(scope='session')
def commands(tmp_path_factory):
    if not sys.platform.startswith('linux'):
        pytest.skip('forks, and reads /proc')
    commands = Commands(tmp_path_factory.mktemp('campaign'))
    yield commands
    commands.close()


@pytest.fixture(scope='session')
def files(commands, load_script, tmp_path_factory):
    """``files['cut.pth']``: made once."""
    parts = [load_script(f'tests/test_campaign/{name}.py') for name in ('files', 'arrays')]

    class Files(parts[0].Files, parts[1].Arrays):
        pass

    return Files(tmp_path_factory.mktemp('files'), commands)
