"""Runs our commands as ``python FILE ARG ...`` does, each in a fork of one process that is warm.

A script of its own: ``python server.py ROOT`` reads requests, a line of JSON each, and answers
them. Every child is a session of its own, without the rights that root has over permissions.
"""

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import runpy
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

LATER = (
    'matplotlib.pyplot',
    'sklearn.datasets',
    'torch.utils.tensorboard',
)
PAGE = resource.getpagesize()
TICKS = os.sysconf('SC_CLK_TCK')


def warm_up(root: Path) -> None:
    """Import what the commands do; compute nothing, since threads do not survive a fork."""
    for path in sorted([*root.glob('tools/**/*.py'), *root.glob('demo/*.py')]):
        sys.path.insert(0, str(path.parent))
        runpy.run_path(str(path))
        del sys.path[0]
    ours = [module.name for module in pkgutil.walk_packages([root / 'mmagic_cm'], 'mmagic_cm.')]
    for name in (*ours, *LATER):
        if not name.endswith('__main__'):
            importlib.import_module(name)


def usage_of(process: int) -> tuple[float, int]:
    """Seconds of computing, and bytes of memory, that a process has taken so far."""
    text = Path(f'/proc/{process}/stat').read_text()
    fields = text.rpartition(')')[2].split()
    return sum(map(int, fields[11:15])) / TICKS, int(fields[21]) * PAGE


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal has come before this ends


def die_while_saving(moment: str, countdown: int) -> None:
    """Kill this process at such a moment of a save, the ``countdown``-th time that it comes."""
    left = [countdown]

    def now() -> bool:
        left[0] -= 1
        return left[0] == 0

    if moment == 'half written':
        fsync = os.fsync

        def half(descriptor):
            path = f'/proc/self/fd/{descriptor}'
            if not os.path.isdir(path) and now():
                os.truncate(path, os.stat(path).st_size // 2)
                die()
            fsync(descriptor)

        os.fsync = half
    else:
        event = {'before renaming': 'os.rename', 'before removing': 'os.remove'}[moment]

        def watch(name, arguments):
            ours = name == event and str(arguments[0]).endswith(('.pth', '.unfinished'))
            if ours and now():
                die()

        sys.addaudithook(watch)


def report_iterations(path: str) -> None:
    """Add a byte to a file whenever an iteration of a training begins."""
    from mmengine.runner import IterBasedTrainLoop

    run_iter = IterBasedTrainLoop.run_iter

    def reporting(self, batch):
        with open(path, 'ab') as file:
            file.write(b'.')
        run_iter(self, batch)

    IterBasedTrainLoop.run_iter = reporting


def drop_rights() -> None:
    """Give up root's rights, such as that to open files of mode 0."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError('capset failed')


def become(request: dict, *descriptors: int) -> None:
    """Be the command, with these as its input and outputs; never returns."""
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(request['folder'])
    # As in a terminal, also where the tests run in the background and ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= request['environment']
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if request['largest_file'] is not None:
        # Writing ends as on a full disk, in libraries not written in Python, too.
        resource.setrlimit(resource.RLIMIT_FSIZE, (request['largest_file'],) * 2)
    if request['moment'] is not None:
        die_while_saving(request['moment'], request['countdown'])
    if request['beats'] is not None:
        report_iterations(request['beats'])
    drop_rights()
    script, *arguments = request['argv']
    sys.argv = [script, *arguments]
    code = 0
    try:
        if script.endswith('.py'):
            sys.path.insert(0, str(Path(script).parent))
            runpy.run_path(script, run_name='__main__')
        else:
            runpy.run_module(script, run_name='__main__', alter_sys=True)
    except SystemExit as error:
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in sys.stdout, sys.stderr:
        stream.flush()
    os._exit(code or 0)


class Child:
    """A command.

    Attributes:
        process: Its number.
        memory: Bytes that it began with.
    """

    def __init__(self, request: dict) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        # Not files, whose size may be bounded.
        pipes = dict(out=os.pipe(), err=os.pipe())
        self.process = os.fork()
        if self.process == 0:
            try:
                become(request, nothing, *(writing for _, writing in pipes.values()))
            finally:
                traceback.print_exc()
                os._exit(99)
        for descriptor in nothing, *(writing for _, writing in pipes.values()):
            os.close(descriptor)
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


def wait(child: Child, busy: float, idle: float, most: int) -> dict:
    """Wait for a child; kill it, and say why, when it does not end by itself.

    Args:
        child: The child.
        busy: Seconds that it may compute.
        idle: Seconds that it may do nothing.
        most: Bytes that it may take.
    """
    process, end, computed, begin = child.process, None, 0.0, time.monotonic()
    since = begin
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
        over = computed > busy or now - since > idle or now - begin > 3 * busy
        if end is None and over:
            end = 'hangs'
        if end is None and now_memory - child.memory > most:
            end = 'takes too much memory'
        if end is not None:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # what it has left behind
    peak = usage.ru_maxrss * 1024 - child.memory
    if end is None and peak > most:
        end = 'takes too much memory'
    return dict(status=os.waitstatus_to_exitcode(status), end=end, peak=peak, **child.said())


def main() -> None:
    """Serve until the requests end."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    warm_up(Path(sys.argv[1]))
    print(json.dumps('warm'), file=answers)
    children = {}
    for line in sys.stdin:
        request = json.loads(line)
        if 'argv' in request:
            child = Child(request)
            children[child.process] = child
            print(child.process, file=answers)
        else:
            child = children.pop(request.pop('process'))
            print(json.dumps(wait(child, **request)), file=answers)


if __name__ == '__main__':
    main()
