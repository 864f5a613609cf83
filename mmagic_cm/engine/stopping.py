"""Ctrl-C, SIGTERM and SIGHUP while a model trains: noted, and answered where a step has ended."""

import contextlib
import os
import signal
import threading
import time

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size, is_main_process

from ..errors import Stopped

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class StopRequest:
    """A scope in which these signals interrupt nothing but are noted.

    One that comes a second after the first, or later, ends the process at once. (Sooner than that,
    torchrun and timeout send the same one twice.) What the process ignores, as under nohup, it
    goes on ignoring. In a distributed run all processes enter together.
    """

    def __enter__(self) -> 'StopRequest':
        self._number = 0
        self._process = os.getpid()
        self._handlers = {}
        # Python lets no other thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._note)
        # By the hosts alone: the GPUs need not wait for it.
        self._group = dist.new_group(backend='gloo') if get_world_size() > 1 else None
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self._number:
            if time.monotonic() - self._since > 1:
                raise Stopped(number)
            return
        self._number, self._since = number, time.monotonic()
        # The data loader's workers inherit this handler, and live on after a Ctrl-C. A scheduler's
        # SIGTERM ends them; torch is not to interrupt the step for it.
        if os.getpid() == self._process:
            self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            if is_main_process():
                name = signal.Signals(number).name
                # After a SIGHUP the terminal is gone.
                with contextlib.suppress(OSError):
                    os.write(2, f'\n{name}: a checkpoint follows; again to end at once.\n'.encode())

    def agreed(self) -> int:
        """The signal that one of the processes has got, or 0; all of them ask at the same time."""
        number = torch.tensor(self._number)
        if self._group is not None:
            dist.all_reduce(number, dist.ReduceOp.MAX, self._group)
        return int(number)
