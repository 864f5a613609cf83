"""What is read, what is refused, and that nothing in a file ever runs."""

import functools
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmagic_cm.apis import load_config
from mmagic_cm.checkpoints import read_checkpoint, register_safe_loaders
from mmagic_cm.errors import InputError

CONFIG = Path(__file__).parents[2] / 'configs/consistency_models/ct_1xb96-digits-8x8.py'


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A checkpoint that MMEngine's Runner has written."""
    cfg = load_config(CONFIG)
    cfg.merge_from_dict(
        {
            'model.denoiser.network.model_channels': 8,
            'train_cfg.max_iters': 2,
            'train_dataloader.batch_size': 4,
            'default_hooks.logger.interval': 1,
            'custom_hooks': cfg.custom_hooks[:2],
            'work_dir': str(tmp_path_factory.mktemp('trained')),
            'experiment_name': 'test_reading',
            'log_level': 'ERROR',
        }
    )
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir) / 'iter_2.pth'


def through_mmengine(path) -> dict:
    register_safe_loaders()
    return mmengine_checkpoint.CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


READERS = pytest.mark.parametrize('read', [read_checkpoint, through_mmengine])


@READERS
def test_training_checkpoints_are_read(trained, read):
    checkpoint = read(trained)
    assert {'state_dict', 'emas', 'optimizer', 'param_schedulers', 'message_hub'} <= set(checkpoint)
    assert checkpoint['meta']['iter'] == 2
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    # Its methods came back with it, and numpy's scalars.
    losses, _ = history.data
    assert history.statistics('mean', 2) == np.mean(losses[-2:]) > 0
    assert history.current() == losses[-1]


def test_stock_reader_refuses_them(trained):
    # If this fails, MMEngine or torch has mended it, and `register_safe_loaders` can shrink.
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        torch.load(trained, weights_only=True)


def test_what_is_allowed_does_not_stay_allowed(trained):
    read_checkpoint(trained)
    assert HistoryBuffer not in torch.serialization.get_safe_globals()


@pytest.mark.parametrize('kind', ['float16', 'float64', 'int32', 'int64', 'uint8', 'bool'])
def test_numpy_values_are_read(tmp_path, kind):
    scalar, array = np.ones((), kind)[()], np.arange(3).astype(kind)
    torch.save(dict(scalar=scalar, array=array), tmp_path / 'x.pth')
    checkpoint = read_checkpoint(tmp_path / 'x.pth')
    assert checkpoint['scalar'] == scalar
    assert checkpoint['array'].dtype == kind
    assert checkpoint['array'].tolist() == array.tolist()


@pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_names_of_numpy_1_and_2_are_read(tmp_path, module):
    torch.save(dict(scalar=np.float64(2.5), array=np.arange(3.0)), tmp_path / 'x.pth')
    with (
        zipfile.ZipFile(tmp_path / 'x.pth') as old,
        zipfile.ZipFile(tmp_path / 'y.pth', 'w') as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name.endswith('data.pkl'):
                data = data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
                assert b'numpy.core.multiarray' in data
                data = data.replace(b'numpy.core.multiarray', module.encode())
            new.writestr(name, data)
    checkpoint = read_checkpoint(tmp_path / 'y.pth')
    assert checkpoint['scalar'] == 2.5
    assert checkpoint['array'].tolist() == [0, 1, 2]


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


HOSTILE = {
    'os.system': lambda marker: Reduced(os.system, f'touch {marker}'),
    'subprocess': lambda marker: Reduced(subprocess.check_call, ['touch', str(marker)]),
    'exec': lambda marker: Reduced(exec, f'open({str(marker)!r}, "w")'),
    # From an allowed class to the modules that it uses, by getattr alone.
    'getattr': lambda _: Reduced(getattr, HistoryBuffer.__init__, '__globals__'),
    'getattr of a method': lambda _: Reduced(getattr, HistoryBuffer, 'register_statistics'),
    'getattr of another class': lambda _: Reduced(getattr, np.ndarray, 'mean'),
}
WRITERS = dict(
    zip=torch.save,
    legacy=functools.partial(torch.save, _use_new_zipfile_serialization=False),
    plain=lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
)


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('write', WRITERS)
@READERS
def test_hostile_files_are_refused_and_do_not_run(tmp_path, name, write, read):
    path, marker = tmp_path / 'hostile.pth', tmp_path / 'marker'
    WRITERS[write](dict(state_dict=HOSTILE[name](marker)), path)
    with pytest.raises(InputError, match=r'hostile\.pth is refused') as caught:
        read(path)
    assert '\n' not in str(caught.value)
    assert not marker.exists()


def test_the_hostile_file_would_run(tmp_path):
    # The tests above can fail: an ordinary reader runs it.
    path, marker = tmp_path / 'hostile.pth', tmp_path / 'marker'
    torch.save(dict(state_dict=HOSTILE['os.system'](marker)), path)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize('scheme', ['http', 'torchvision', 'open-mmlab', 'mmcls'])
@pytest.mark.parametrize('name', ['os.system', 'getattr'])
def test_hostile_downloads_are_refused_and_do_not_run(server, tmp_path, monkeypatch, name, scheme):
    folder, address = server
    marker = tmp_path / 'marker'
    torch.save(dict(state_dict=HOSTILE[name](marker)), folder / 'hostile.pth')
    url = f'{address}/hostile.pth'
    for table in 'get_torchvision_models', 'get_external_models', 'get_mmcls_models':
        monkeypatch.setattr(mmengine_checkpoint, table, lambda: dict(model=url))
    with pytest.raises(InputError, match=r'hostile\.pth is refused'):
        through_mmengine(url if scheme == 'http' else f'{scheme}://model')
    assert not marker.exists()


def test_downloads_are_read_and_kept(server, trained):
    folder, address = server
    (folder / 'x.pth').write_bytes(trained.read_bytes())
    first = through_mmengine(f'{address}/x.pth?download=1')
    assert first['meta']['iter'] == 2
    (folder / 'x.pth').unlink()
    assert through_mmengine(f'{address}/x.pth')['meta'] == first['meta']


def test_failed_downloads_say_where_to_put_the_file(server, tmp_path):
    _, address = server
    cached = tmp_path / 'cache/checkpoints/missing.pth'
    with pytest.raises(InputError, match=str(cached)):
        through_mmengine(f'{address}/missing.pth')
    assert not cached.exists()


BAD = {
    'missing': lambda path: None,
    'a folder': lambda path: path.mkdir(),
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('weights\n' * 9),
    'no dictionary': lambda path: torch.save([1, 2], path),
    'no names': lambda path: torch.save({1: torch.ones(1)}, path),
    'no weights': lambda path: torch.save(dict(state_dict=5), path),
    'no rate': lambda path: torch.save(dict(state_dict={}, emas=dict(longest={})), path),
    'no averages': lambda path: torch.save(dict(state_dict={}, emas={'0.9': 5}), path),
}


@pytest.mark.parametrize('case', BAD)
@READERS
def test_bad_files_get_one_sentence_with_the_path(tmp_path, case, read):
    path = tmp_path / 'bad.pth'
    BAD[case](path)
    with pytest.raises(InputError, match=str(path)) as caught:
        read(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('share', [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('write', ['zip', 'legacy'])
def test_files_that_were_cut_short_get_one_sentence(tmp_path, write, share):
    path = tmp_path / 'cut.pth'
    WRITERS[write](dict(state_dict={str(i): torch.ones(9) for i in range(20)}), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r'cut\.pth') as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)


def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path):
    path, random = tmp_path / 'damaged.pth', np.random.default_rng(0)
    WRITERS['legacy'](dict(state_dict=dict(a=torch.ones(3), b=np.arange(2))), path)
    content = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('place', ['x.pt', 'diffusion_pytorch_model.bin', 'x.safetensors'])
def test_hostile_files_by_any_name(name, place, tmp_path):
    marker = tmp_path / 'marker'
    (tmp_path / 'unet').mkdir()
    torch.save(dict(state_dict=HOSTILE[name](marker)), tmp_path / 'unet' / place)
    with pytest.raises(InputError, match=r'is refused|no safetensors file'):
        read_checkpoint(tmp_path if place.endswith('bin') else tmp_path / 'unet' / place)
    assert not marker.exists()
