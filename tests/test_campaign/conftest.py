"""Commands in forks of this process, which is warm, and a folder of hostile files for them.

Every child is a session of its own, without the rights that root has over permissions.
"""

import ctypes
import importlib
import os
import pkgutil
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 2**20
# What commands import when they need it.
LATER = 'matplotlib.pyplot', 'sklearn.datasets', 'torch.utils.tensorboard'
PAGE = resource.getpagesize()
TICKS = os.sysconf('SC_CLK_TCK')


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


def usage_of(process: int) -> tuple[float, int]:
    """Seconds of computing, and bytes of memory, that a process has taken so far."""
    text = Path(f'/proc/{process}/stat').read_text()
    fields = text.rpartition(')')[2].split()
    return sum(map(int, fields[11:15])) / TICKS, int(fields[21]) * PAGE


def drop_rights() -> None:
    """Give up root's rights, such as that to open files of mode 0."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError('capset failed')


def become(argv: list[str], folder: Path, largest_file: int | None, environment: dict) -> int:
    """Be the command; its exit status."""
    os.setsid()
    os.chdir(folder)
    # As in a terminal, also where the tests run in the background and ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= environment
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if largest_file is not None:
        # Writing ends as on a full disk, in libraries not written in Python, too.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file,) * 2)
    drop_rights()
    sys.argv = argv
    try:
        if argv[0].endswith('.py'):
            sys.path.insert(0, str(Path(argv[0]).parent))
            runpy.run_path(argv[0], run_name='__main__')
        else:
            runpy.run_module(argv[0], run_name='__main__', alter_sys=True)
    except SystemExit as error:
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Child:
    """A command.

    Attributes:
        process: Its number.
        memory: Bytes that it began with.
    """

    def __init__(self, prepare: Callable[[], None], *command) -> None:
        # Not files, whose size may be bounded.
        pipes = dict(out=os.pipe(), err=os.pipe())
        self.process = os.fork()
        if self.process == 0:
            code = 99
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                for number, (_, writing) in enumerate(pipes.values(), 1):
                    os.dup2(writing, number)
                # Not those of pytest, which keeps what is said.
                sys.stdout = open(1, 'w', buffering=1)  # noqa: SIM115
                sys.stderr = open(2, 'w', buffering=1)  # noqa: SIM115
                prepare()
                code = become(*command)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        for _, writing in pipes.values():
            os.close(writing)
        self.memory = usage_of(self.process)[1]
        self._pipes = {name: reading for name, (reading, _) in pipes.items()}
        self._said = dict.fromkeys(pipes, b'')
        for reading in self._pipes.values():
            os.set_blocking(reading, False)

    def listen(self) -> None:
        for name, reading in self._pipes.items():
            with suppress(BlockingIOError):
                while data := os.read(reading, 2**16):
                    self._said[name] += data

    def said(self) -> dict[str, str]:
        """All that it has said, when it has ended."""
        self.listen()
        for reading in self._pipes.values():
            os.close(reading)
        return {name: data.decode(errors='backslashreplace') for name, data in self._said.items()}


class Commands:
    """Starts commands and waits for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = dict(LOCAL_RANK='0', MMAGIC_CM_CACHE=str(folder / 'cache'))
        self._children: dict[int, Child] = {}

    def start(
        self,
        argv: Sequence[str],
        folder: Path | None = None,
        *,
        largest_file: int | None = None,
        prepare: Callable[[], None] = lambda: None,
        **environment: str,
    ) -> int:
        """Start a command in a folder of its own; returns its process.

        Args:
            argv: A script of the repository, or a module, and its arguments.
            folder: Default: a new one.
            largest_file: Bytes; what writes a longer one fails.
            prepare: Called in the process before it begins.
            **environment: Variables.
        """
        folder = folder or Path(tempfile.mkdtemp(dir=self._folder))
        script, *arguments = map(str, argv)
        script = str(ROOT / script) if script.endswith('.py') else script
        environment = self._environment | environment
        child = Child(prepare, [script, *arguments], folder, largest_file, environment)
        self._children[child.process] = child
        return child.process

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
        child, end, computed = self._children.pop(process), None, 0.0
        begin = since = time.monotonic()
        while True:
            child.listen()
            # Before it is waited for: a process that has ended keeps its figures until then.
            now_computed, now_memory = usage_of(process)
            found, status, usage = os.wait4(process, os.WNOHANG)
            if found:
                break
            now = time.monotonic()
            if now_computed > computed:
                computed, since = now_computed, now
            # A server that waits computes a little.
            if computed > busy or now - since > idle or now - begin > 3 * busy:
                end = end or 'hangs'
            if now_memory - child.memory > most:
                end = end or 'takes too much memory'
            if end is not None:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # what it has left behind
        peak = usage.ru_maxrss * 1024 - child.memory
        if end is None and peak > most:
            end = 'takes too much memory'
        return Ended(os.waitstatus_to_exitcode(status), end, peak, **child.said())

    def run(self, argv: Sequence[str], folder: Path | None = None, **settings) -> Ended:
        """Start a command and wait for it."""
        return self.wait(self.start(argv, folder, **settings))


@pytest.fixture(scope='session')
def commands(tmp_path_factory):
    if not sys.platform.startswith('linux'):
        pytest.skip('forks, and reads /proc')
    ours = [module.name for module in pkgutil.walk_packages([ROOT / 'mmagic_cm'], 'mmagic_cm.')]
    for name in (*ours, *LATER):
        if not name.endswith('__main__'):
            importlib.import_module(name)
    return Commands(tmp_path_factory.mktemp('campaign'))


@pytest.fixture(scope='session')
def files(commands, load_script, tmp_path_factory):
    """``files['cut.pth']``: made once."""
    parts = [load_script(f'tests/test_campaign/{name}.py') for name in ('files', 'arrays')]

    class Files(parts[0].Files, parts[1].Arrays):
        pass

    return Files(tmp_path_factory.mktemp('files'), commands)
