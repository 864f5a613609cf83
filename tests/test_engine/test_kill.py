"""A run that is killed again and again ends as if it never had been."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import checkpoint_hook

KILLS, STEPS = 20, 60
OPTIONS = dict(
    max_iters=STEPS,
    default_hooks__checkpoint__interval=2,
    default_hooks__checkpoint__max_keep_ckpts=2,
    model__denoiser__network__dropout=0.2,
    train_dataloader__dataset__pipeline=[dict(type='RandomFlip'), dict(type='PackImage')],
    optim_wrapper__type='MixedPrecisionOptimWrapper',
    optim_wrapper__dtype='bfloat16',
    # Checkpoints wait for the end of a step: each third iteration.
    optim_wrapper__accumulative_counts=3,
)


class Report(Hook):
    """Tell the parent process that a life has begun, and of each of its iterations."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        os.write(self.pipe, b'.')


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
            size = os.fstat(descriptor).st_size
            if not os.path.isdir(f'/proc/self/fd/{descriptor}') and now():
                os.ftruncate(descriptor, size // 2)
                die()
            fsync(descriptor)

        checkpoint_hook.os.fsync = half
    else:
        event = {'before renaming': 'os.rename', 'before removing': 'os.remove'}[moment]

        def watch(name, arguments):
            ours = name == event and str(arguments[0]).endswith(('.pth', '.unfinished'))
            if ours and now():
                die()

        sys.addaudithook(watch)


def live(train, pipe: int, moment: str | None, countdown: int) -> None:
    """What a forked process does; it never returns."""
    try:
        if moment is not None:
            die_while_saving(moment, countdown)
        train(Report(pipe))
    except BaseException as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        os._exit(1)
    os._exit(0)


def fork(train, moment: str | None = None, countdown: int = 0) -> tuple[int, int]:
    """Begin a life; return its process and the pipe that it reports to."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        live(train, writing, moment, countdown)
    os.close(writing)
    return process, reading


def end_of(process: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def lasting(path: Path) -> dict:
    checkpoint = read_checkpoint(path)
    names = 'state_dict', 'emas', 'optimizer', 'param_schedulers'
    return {name: checkpoint[name] for name in names}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forks, and reads /proc')
def test_twenty_kills_leave_no_trace(trainer, tmp_path, equal):
    draw = random.Random(0)

    def train_whole(*hooks):
        trainer('ct', *hooks, work_dir='whole', **OPTIONS).train()

    def train_killed(*hooks):
        trainer('ct', *hooks, work_dir='killed', resume=True, **OPTIONS).train()

    assert end_of(fork(train_whole)[0]) == 0
    folder = tmp_path / 'killed'
    moments = ['half written', 'before renaming', 'before removing', None, None]
    latest, deaths = 0, []
    for kill in range(KILLS):
        moment = moments[kill % len(moments)]
        # A save is two files that are written and renamed; the third save is the first that
        # removes one.
        countdown = draw.randint(1, 4) if moment else 0
        process, reports = fork(train_killed, moment, countdown)
        if moment is None:
            for _ in range(draw.randint(0, 5)):
                assert os.read(reports, 1)
            time.sleep(draw.uniform(0, 0.05))
            os.kill(process, signal.SIGKILL)
        assert end_of(process) == -signal.SIGKILL
        os.close(reports)
        deaths.append({path.name for path in folder.glob('*.unfinished')})
        # Whatever bears the name of a checkpoint is one, and the run never falls back.
        for path in folder.glob('*.pth'):
            read_checkpoint(path)
        last = folder / 'last_checkpoint'
        if last.exists():
            iteration = read_checkpoint(last.read_text())['meta']['iter']
            assert iteration >= latest
            latest = iteration

    assert 0 < latest < STEPS
    # Kills did hit writes, of both files.
    left = set().union(*deaths)
    assert 'last_checkpoint.unfinished' in left
    assert any(name.endswith('.pth.unfinished') for name in left)

    assert end_of(fork(train_killed)[0]) == 0
    assert equal(*(lasting(tmp_path / name / f'iter_{STEPS}.pth') for name in ('whole', 'killed')))
    files = {path.name for path in folder.iterdir() if path.suffix in {'.pth', '.unfinished'}}
    assert files == {f'iter_{STEPS - 3}.pth', f'iter_{STEPS}.pth'}


def test_equality_is_not_trivial(trainer, equal):
    ends = []
    for steps in 6, 12:
        runner = trainer('ct', work_dir=f'{steps}', **OPTIONS | dict(max_iters=steps))
        runner.train()
        ends.append(runner.model.state_dict())
    assert not equal(*ends)
    assert not any(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True))
