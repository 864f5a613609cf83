"""Trainings that are killed again and again end as if they never had been, to the last bit."""

import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.runner import IterBasedTrainLoop

from mmagic_cm.checkpoints import read_checkpoint

CONFIGS = Path(__file__).parents[2] / 'configs/consistency_models'
STEPS = 60
OPTIONS = {
    'train_cfg.max_iters': STEPS,
    'train_dataloader.batch_size': 8,
    'train_dataloader.dataset.serialize_data': False,
    'model.denoiser.network.model_channels': 8,
    'model.denoiser.network.dropout': 0.2,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': 2,
    'custom_hooks.2.num_columns': 1,
    'log_level': 'ERROR',
}
# Config, flags, options, processes.
RUNS = {
    'ect': ('ect', [], {}, 1),
    'ct': ('ct', [], {}, 1),
    'pd': ('pd', [], {'model.objective.curriculum.steps_per_stage': 11}, 1),
    'accumulation': ('ct', [], {'optim_wrapper.accumulative_counts': 3}, 1),
    'half precision': ('ct', ['--amp', 'bf16'], {}, 1),
    'two processes': ('ct', [], {}, 2),
}
# What ends a life: a moment of a save, or a signal at any time.
DEATHS = 'half written', 'before renaming', 'before removing', *('SIGKILL',) * 3
DEATHS += 'SIGKILL', 'half written', 'SIGTERM', 'SIGINT'


def vanish() -> None:
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
                vanish()
            fsync(descriptor)

        os.fsync = half
    else:
        event = {'before renaming': 'os.rename', 'before removing': 'os.remove'}[moment]

        def watch(name, arguments):
            ours = name == event and str(arguments[0]).endswith(('.pth', '.unfinished'))
            if ours and now():
                vanish()

        sys.addaudithook(watch)


def report_iterations(path: Path) -> None:
    """Add a byte to a file whenever an iteration of a training begins."""
    run_iter = IterBasedTrainLoop.run_iter

    def reporting(self, batch):
        with path.open('ab') as file:
            file.write(b'.')
        run_iter(self, batch)

    IterBasedTrainLoop.run_iter = reporting


class Training:
    """One of RUNS in a work directory, to be lived in several lives."""

    def __init__(self, commands, name: str, folder: Path, *arguments: str) -> None:
        config, flags, options, self.world_size = RUNS[name]
        settings = [f'{key}={value}' for key, value in (OPTIONS | options).items()]
        self.work_dir = folder / 'run'
        self._commands, self._folder = commands, folder
        self._argv = ['tools/train.py', CONFIGS / f'{config}_1xb96-digits-8x8.py', *flags]
        self._argv += ['--resume', '--work-dir', self.work_dir]
        if self.world_size > 1:
            self._argv += ['--launcher', 'pytorch']
            settings.append('model_wrapper_cfg.device_ids=None')
        self._argv += ['--cfg-options', *settings, *arguments]
        self._lives = 0

    def begin(self, moment: str | None = None, countdown: int = 0) -> list[int]:
        """Begin a life; returns its processes, of which the first saves."""
        self._lives += 1
        with closing(socket.create_server(('127.0.0.1', 0))) as server:
            address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(server.getsockname()[1]))
        processes = []
        for rank in range(self.world_size):
            folder = self._folder / f'life {self._lives}, process {rank}'
            folder.mkdir(parents=True)
            if self.world_size > 1:
                address |= dict(RANK=f'{rank}', LOCAL_RANK=f'{rank}', WORLD_SIZE='2')
            processes.append(
                self._commands.start(
                    self._argv,
                    folder,
                    prepare=partial(self._prepare, rank, moment, countdown),
                    **address,
                )
            )
        return processes

    def _prepare(self, rank: int, moment: str | None, countdown: int) -> None:
        if rank == 0:
            report_iterations(self.beats)
            if moment is not None:
                die_while_saving(moment, countdown)

    @property
    def beats(self) -> Path:
        """A file with a byte for each iteration of this life."""
        return self._folder / f'beats {self._lives}'

    def wait_for_beats(self, count: int) -> None:
        end = time.monotonic() + 600
        while not self.beats.exists() or self.beats.stat().st_size < count:
            assert time.monotonic() < end, 'no iteration begins'
            time.sleep(0.002)

    def end(self, processes: list[int]) -> list:
        """How each process ended; none hangs."""
        ended = [self._commands.wait(process, busy=600, idle=60) for process in processes]
        for one in ended:
            assert one.end is None, one
            said = one.out + one.err
            assert 'Traceback (most recent call last)' not in said, said[-500:]
        return ended

    def finish(self) -> dict:
        """Live to the end; returns what the last checkpoint holds."""
        ended = self.end(self.begin())
        assert [one.status for one in ended] == [0] * self.world_size, ended
        return lasting(self.work_dir / f'iter_{STEPS}.pth')

    def latest(self) -> int:
        """The iteration with which the run would go on; 0: there is none."""
        last = self.work_dir / 'last_checkpoint'
        return read_checkpoint(last.read_text())['meta']['iter'] if last.exists() else 0


def lasting(path: Path) -> dict:
    checkpoint = read_checkpoint(path)
    names = {'state_dict', 'emas', 'optimizer', 'param_schedulers', 'teacher'}
    return {name: checkpoint[name] for name in names & checkpoint.keys()}


def die(training: Training, death: str, draw: random.Random) -> list:
    """A life with such an end; returns how its processes ended."""
    if not death.startswith('SIG'):
        # A save is two files that are written and renamed; the third save is the first that
        # removes one.
        ended = training.end(training.begin(death, draw.randint(1, 4)))
        assert ended[0].status == -signal.SIGKILL, ended
        return ended
    number = signal.Signals[death]
    processes = training.begin()
    # A command that has not begun cannot say anything.
    training.wait_for_beats(draw.randint(number != signal.SIGKILL, 6))
    time.sleep(draw.uniform(0, 0.05))
    # Of a killed process the others are not told.
    for process in processes[:1] if number == signal.SIGKILL else processes:
        os.kill(process, number)
    ended = training.end(processes)
    if number == signal.SIGKILL:
        assert ended[0].status == -number, ended
    else:
        assert [one.status for one in ended] == [128 + number] * len(ended), ended
        assert f'stopped by {death}' in ended[0].err
    return ended


@pytest.fixture(scope='module')
def teacher(commands, tmp_path_factory):
    folder = tmp_path_factory.mktemp('teacher')
    settings = OPTIONS | {'train_cfg.max_iters': 2}
    argv = ['tools/train.py', CONFIGS / 'edm_1xb96-digits-8x8.py', '--work-dir', folder]
    argv += ['--cfg-options', *(f'{key}={value}' for key, value in settings.items())]
    assert commands.run(argv).status == 0
    return folder / 'iter_2.pth'


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_kills_leave_no_trace(commands, teacher, tmp_path, equal, name, record_property):
    begin, draw = time.monotonic(), random.Random(name)
    arguments = [f'model.teacher.checkpoint={teacher}'] if name == 'pd' else []
    whole = Training(commands, name, tmp_path / 'whole', *arguments).finish()

    training = Training(commands, name, tmp_path / 'killed', *arguments)
    deaths = draw.sample(DEATHS, len(DEATHS))
    latest, left = 0, Counter()
    for death in deaths:
        die(training, death, draw)
        left.update(path.suffixes[0] for path in training.work_dir.glob('*.unfinished'))
        # Whatever bears the name of a checkpoint is one, and the run never falls back.
        for path in training.work_dir.glob('*.pth'):
            read_checkpoint(path)
        assert training.latest() >= latest
        latest = training.latest()
    assert 0 < latest < STEPS
    killed = training.finish()

    summary = (
        f'{name}: {len(deaths)} kills in {time.monotonic() - begin:.0f} s, the last after '
        f'iteration {latest} of {STEPS}; files left unfinished: {dict(left)}'
    )
    print(summary)
    record_property('campaign', summary)
    for part in whole:
        assert equal(killed[part], whole[part]), part
    files = {path.name for path in training.work_dir.iterdir() if path.is_file()}
    assert f'iter_{STEPS}.pth' in files
    assert len([file for file in files if file.endswith('.pth')]) == 2
    assert not [file for file in files if file.endswith('.unfinished')]


def test_equality_is_not_trivial(equal):
    one = dict(state_dict=dict(a=torch.zeros(3)), emas=[torch.ones(2)])
    other = dict(state_dict=dict(a=torch.tensor([0, 0, 1e-30])), emas=[torch.ones(2)])
    assert equal(one, one)
    assert not equal(one, other)
