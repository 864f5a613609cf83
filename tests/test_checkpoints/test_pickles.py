"""What a file of torch.save may not do: promise more than it holds, or be damaged."""

import os
import threading
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from numpy.core.multiarray import scalar

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.errors import InputError

HUGE = 10**12


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


def promising() -> torch.Tensor:
    """Four bytes that say they are four terabytes."""
    return torch.zeros(1).expand(HUGE)


class Keyed:
    """Pickles as a dictionary with a key whose 2^60 parts Python counts together."""

    def __reduce__(self):
        key = 0
        for _ in range(60):
            key = (key, key)
        return OrderedDict, (), None, None, iter([(key, 1)])


BOMBS = {
    'bytearray': lambda: Reduced(bytearray, 12 << 30),
    'torch.Tensor': lambda: Reduced(torch.Tensor, 10**9),
    'torch.Size': lambda: Reduced(torch.Size, promising()),
    'array': lambda: Reduced(np.ndarray, (HUGE,)),
    'scalar': lambda: Reduced(scalar, np.dtype('V2000000000')),
    'ordered': lambda: Reduced(OrderedDict, promising()),
    'ordered, by Python 2': lambda: Reduced(OrderedDict, [('a', 1), promising()]),
    'counted': lambda: Reduced(Counter, promising()),
    'history': lambda: Reduced(HistoryBuffer, promising(), promising()),
    'key': Keyed,
    'of one number': promising,
    'of one number, as a parameter': lambda: torch.nn.Parameter(promising()),
    'one tensor by many names': lambda: dict.fromkeys(range(1000), torch.zeros(1000)),
    'one tensor, many times': lambda: [[torch.zeros(1000)] * 1000],
}


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name', BOMBS)
def test_memory_is_bounded_by_the_file(tmp_path, name, legacy):
    path = tmp_path / 'bomb.pth'
    content = dict(state_dict={}, more=BOMBS[name]())
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size < 50_000
    with pytest.raises(InputError, match=r'bomb\.pth (is refused|cannot be read)'):
        read_checkpoint(path)
    if not legacy:
        with pytest.raises(InputError, match=r'bomb\.pth (is refused|cannot be read)'):
            read_checkpoint(path, 'meta')


def rewritten(path: Path, kind: int) -> Path:
    out = path.with_name('out.pth')
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, 'w', kind) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out


def test_a_name_in_capitals_is_looked_at_as_well(tmp_path):
    torch.save(dict(a=Reduced(bytearray, 12 << 30)), tmp_path / 'x.pth')
    content = (tmp_path / 'x.pth').read_bytes()
    (tmp_path / 'x.pth').write_bytes(content.replace(b'/data.pkl', b'/DATA.PKL'))
    with pytest.raises(InputError, match=r'builtin.*\.bytearray is not allowed'):
        read_checkpoint(tmp_path / 'x.pth')


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(2**16), b=torch.arange(3))), path)
    return path


def test_parts_larger_than_the_file_are_refused(saved):
    found = read_checkpoint(rewritten(saved, zipfile.ZIP_STORED))
    assert found['state_dict']['a'].shape == (2**16,)
    with pytest.raises(InputError, match=r'out\.pth is refused: .*larger than the file'):
        read_checkpoint(rewritten(saved, zipfile.ZIP_DEFLATED))


def test_what_is_shared_is_no_promise(tmp_path):
    shared = torch.zeros(2**16)
    weights = dict(a=shared, b=shared[:9], c=shared.view(2, -1), counted=Counter([3, 3, 5]))
    torch.save(weights, tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')
    assert found['b'].data_ptr() == found['a'].data_ptr() == found['c'].data_ptr()
    assert found['counted'] == weights['counted']


def test_dictionaries_of_python_2_are_read(tmp_path):
    weights = Reduced(OrderedDict, [['a', torch.ones(2)], ['b', torch.arange(3)]])
    torch.save(weights, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    found = read_checkpoint(tmp_path / 'x.pth')
    assert [(name, tensor.tolist()) for name, tensor in found.items()] == [
        ('a', [1, 1]),
        ('b', [0, 1, 2]),
    ]


@pytest.mark.parametrize('mmap', [False, True])
def test_a_flipped_bit_is_noticed(saved, mmap):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(InputError, match=r'weights\.pth cannot be read.*data/0 is damaged'):
        read_checkpoint(saved, mmap=mmap)


def test_files_without_checksums_are_read(tmp_path, request):
    request.addfinalizer(lambda: torch.serialization.set_crc32_options(True))
    torch.serialization.set_crc32_options(False)
    torch.save(dict(a=torch.ones(9)), tmp_path / 'x.pth')
    assert read_checkpoint(tmp_path / 'x.pth')['a'].sum() == 9


def test_readers_in_threads_do_not_disturb_each_other(tmp_path):
    torch.save(dict(a=torch.ones(1), log=HistoryBuffer([1.0], [1])), tmp_path / 'x.pth')
    read, failed = [], []

    def reader() -> None:
        for _ in range(10):
            try:
                read.append(read_checkpoint(tmp_path / 'x.pth')['log'].current())
            except InputError as error:
                failed.append(error)

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert read == [1.0] * 40


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_devices_and_pipes_are_no_files(tmp_path, suffix):
    os.mkfifo(tmp_path / f'pipe{suffix}')
    (tmp_path / f'zero{suffix}').symlink_to('/dev/zero')
    for name in 'pipe', 'zero':
        with pytest.raises(InputError, match=rf'no regular file .*{name}\{suffix}'):
            read_checkpoint(tmp_path / f'{name}{suffix}')
