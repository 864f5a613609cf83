"""Sets of samples in files: whole, once, and the same however they were drawn."""

import os
import signal
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from mmagic_cm.errors import InputError
from mmagic_cm.sampling import sets as sample_files
from mmagic_cm.sampling.sets import write_samples

COUNT = 50
KILL = signal.SIGKILL
KILLED = -KILL


def assert_holds(out: Path, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """The npz has these images, to one grey level, and nothing is left beside it."""
    with np.load(out) as found:
        assert found.files == ['arr_0', 'arr_1']
        assert found['arr_0'].dtype == np.uint8
        assert found['arr_1'].dtype == np.int64
        assert found['arr_0'].shape == expected[0].shape
        assert abs(found['arr_0'].astype(int) - expected[0]).max() <= 1
        assert np.array_equal(found['arr_1'], expected[1])
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(out.name)] == [
        out.name
    ]


# --- the same set, however it is drawn ---


@pytest.mark.parametrize('batch_size', [3, 64])
def test_one_process(batch_size, model, expected, tmp_path):
    write_samples(model, COUNT, tmp_path / 'a.npz', seed=2, batch_size=batch_size)
    assert_holds(tmp_path / 'a.npz', expected)


@pytest.mark.parametrize('batch_size', [3, 64])
def test_two_processes(batch_size, model, expected, in_processes, tmp_path):
    drawn = tmp_path / 'drawn'
    sample = model.sample

    def noted(indices, *args, **settings):
        with drawn.open('a') as file:
            file.write(''.join(f'{dist.get_rank()} {i}\n' for i in indices))
        return sample(indices, *args, **settings)

    def work(rank):
        model.sample = noted
        write_samples(model, COUNT, tmp_path / 'a.npz', seed=2, batch_size=batch_size)

    assert in_processes(2, work) == [0, 0]
    assert_holds(tmp_path / 'a.npz', expected)
    # Each image was drawn once, and both took part where there was work for both.
    lines = [tuple(map(int, line.split())) for line in drawn.read_text().splitlines()]
    assert sorted(i for _, i in lines) == list(range(COUNT))
    assert {rank for rank, _ in lines} == ({0, 1} if batch_size == 3 else {0})


def die_at(monkeypatch, batch: int, step: str) -> None:
    """SIGKILL at a batch: when half of it is written, or before it gets its name."""
    save, calls = sample_files._save, []

    def dying(images, of_batch, part, kind):
        calls.append(of_batch)
        if len(calls) == batch:
            if step == 'half':
                name = f'.{of_batch.start:06d}-{of_batch.stop:06d}.npy'
                (part / name).write_bytes(b'\x93NUMPY half of a batch')
            if step == 'unnamed':
                monkeypatch.setattr(os, 'replace', lambda *paths: os.kill(os.getpid(), KILL))
                save(images, of_batch, part, kind)
            os.kill(os.getpid(), KILL)
        save(images, of_batch, part, kind)

    monkeypatch.setattr(sample_files, '_save', dying)


@pytest.mark.parametrize('step', ['half', 'unnamed'])
@pytest.mark.parametrize(('first', 'then'), [(1, 2), (2, 1)])
def test_killed_in_the_middle(
    step, first, then, model, expected, monkeypatch, in_processes, tmp_path
):
    out = tmp_path / 'a.npz'

    def work(rank):
        die_at(monkeypatch, 4 + 2 * rank, step)
        write_samples(model, COUNT, out, seed=2, batch_size=3)

    assert in_processes(first, work) == [KILLED] * first
    part = tmp_path / 'a.npz.part'
    left = sum(stop - begin for begin, stop, _ in sample_files._done(part))
    assert left == (9 if first == 1 else 9 + 15)
    assert not out.exists()

    # It goes on with other batches and processes, and draws no image again.
    drawn, sample = tmp_path / 'drawn', model.sample

    def noted(indices, *args, **settings):
        with drawn.open('a') as file:
            file.write(''.join(f'{i}\n' for i in indices))
        return sample(indices, *args, **settings)

    def go_on(rank):
        model.sample = noted
        write_samples(model, COUNT, out, seed=2, batch_size=4)

    assert in_processes(then, go_on) == [0] * then
    assert_holds(out, expected)
    again = [int(line) for line in drawn.read_text().splitlines()]
    assert len(again) == len(set(again)) == COUNT - left


@pytest.mark.parametrize('step', ['merge', 'rename'])
def test_killed_while_the_file_is_made(step, model, expected, monkeypatch, in_processes, tmp_path):
    out = tmp_path / 'a.npz'

    def work(rank):
        if step == 'merge':
            monkeypatch.setattr(
                np.lib.format, 'write_array_header_1_0', lambda *a: os.kill(os.getpid(), KILL)
            )
        else:
            merge = sample_files._merge
            monkeypatch.setattr(
                sample_files, '_merge', lambda *a: (merge(*a), os.kill(os.getpid(), KILL))
            )
        write_samples(model, COUNT, out, seed=2, batch_size=16)

    assert in_processes(1, work) == [KILLED]
    assert not out.exists()
    model.sample = None  # nothing is left to be drawn
    write_samples(model, COUNT, out, seed=2, batch_size=16)
    assert_holds(out, expected)


def test_another_process_finishes_what_one_did_not_begin(model, expected, in_processes, tmp_path):
    """A complete folder and more processes than batches."""
    out = tmp_path / 'a.npz'
    write = lambda rank: write_samples(model, COUNT, out, seed=2, batch_size=64)  # noqa: E731
    assert in_processes(3, write) == [0, 0, 0]
    assert_holds(out, expected)


@pytest.mark.parametrize('killed', [0, 1])
def test_one_of_two_is_killed(killed, model, expected, monkeypatch, in_processes, tmp_path, capfd):
    """The other draws its share, notices, and ends."""
    out = tmp_path / 'a.npz'

    def work(rank):
        if rank == killed:
            die_at(monkeypatch, 4, 'half')
        write_samples(model, COUNT, out, seed=2, batch_size=3)

    codes = in_processes(2, work)
    assert codes == ([KILLED, 1] if killed == 0 else [1, KILLED])
    assert 'RuntimeError' in capfd.readouterr().err
    write_samples(model, COUNT, out, seed=2)
    assert_holds(out, expected)


def test_two_commands_on_one_output(model, expected, tmp_path):
    out = tmp_path / 'a.npz'
    sample = model.sample

    def sample_beside_another(*args, **settings):
        with pytest.raises(InputError, match=r'a\.npz .*process '):
            write_samples(model, COUNT, out, seed=3)
        return sample(*args, **settings)

    model.sample = sample_beside_another
    write_samples(model, COUNT, out, seed=2)
    assert_holds(out, expected)


def test_processes_that_outlived_their_launcher(model, expected, monkeypatch, tmp_path):
    """What two commands draw at the same time overlaps, and is taken once."""
    out = tmp_path / 'a.npz'
    save = sample_files._save

    def save_beside_another(images, batch, part, kind):
        for first in range(batch.start - batch.start % 5, batch.stop, 5):
            other = range(first, min(first + 5, COUNT))
            save(expected[0][other.start : other.stop], other, part, kind)
        save(images, batch, part, kind)

    monkeypatch.setattr(sample_files, '_save', save_beside_another)
    write_samples(model, COUNT, out, seed=2, batch_size=8)
    assert_holds(out, expected)


def test_a_folder_after_a_kill(model, expected, monkeypatch, in_processes, tmp_path):
    out = tmp_path / 'folder'

    def work(rank):
        die_at(monkeypatch, 3, 'unnamed')
        write_samples(model, COUNT, out, seed=2, batch_size=8)

    assert in_processes(1, work) == [KILLED]
    assert not out.exists()
    out.mkdir()  # an empty folder is as good as none
    write_samples(model, COUNT, out, seed=2, batch_size=5)
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(out.glob('*.png'))])
    assert images.shape == (COUNT, 8, 8)
    assert abs(images[..., None].astype(int) - expected[0]).max() <= 1
    assert not list(out.glob('.*'))


def test_progress_shows_all_processes(model, in_processes, tmp_path, capfd):
    def work(rank):
        sample_files._POLL_SECONDS = 0.01
        write_samples(model, COUNT, tmp_path / 'a.npz', batch_size=1, progress=True)

    in_processes(2, work)
    shown = capfd.readouterr().err
    assert shown.count(' 50/50 ') == 1
    assert shown.count(' 0/50 ') == 1


# --- memory ---


def test_memory_is_bounded_by_the_batch(build_model, monkeypatch, tmp_path):
    """Peak of all arrays, and how many batches of tensors live at once."""
    model = build_model(dict(num_classes=None))
    shape, batch_size = (3, 64, 64), 16
    alive = weakref.WeakSet()

    def sample(indices, *args, **settings):
        assert len(alive) <= 1
        images = torch.zeros(len(indices), *shape, dtype=torch.uint8)
        images += torch.tensor(indices).reshape(-1, 1, 1, 1).to(torch.uint8)
        alive.add(images)
        return images

    monkeypatch.setattr(model, 'sample', sample)
    peaks = []
    for count in (160, 1600):
        tracemalloc.start()
        write_samples(model, count, tmp_path / f'{count}.npz', batch_size=batch_size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    of_batch = batch_size * 3 * 64 * 64
    assert peaks[1] < 5 * of_batch < 1600 * 3 * 64 * 64 / 10
    assert peaks[1] < peaks[0] + of_batch
    with np.load(tmp_path / '1600.npz') as found:
        assert found.files == ['arr_0']
        assert found['arr_0'].shape == (1600, 64, 64, 3)
        assert np.array_equal(found['arr_0'][:, 0, 0, 0], np.arange(1600) % 256)
