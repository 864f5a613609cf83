"""Pickles of EDM and ECT: the reference's outputs, and nothing of what hostile ones ask for."""

import io
import json
import lzma
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.checkpoints import checkpoint, read_checkpoint
from mmagic_cm.checkpoints.nvlabs import Held, tensors_of
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS

FILES = ['edm_pickle_tiny_ddpmpp', 'edm_pickle_tiny_adm', 'ect_pickle_tiny']


@pytest.fixture(scope='module')
def pickles(data, tmp_path_factory) -> dict:
    """The recorded files, by name."""
    folder, paths = data / 'goldens', {}
    for name in FILES:
        paths[name] = folder / f'{name}.pkl'
        packed = folder / f'{name}.pkl.xz'
        if packed.exists():
            paths[name] = tmp_path_factory.mktemp('pickles') / f'{name}.pkl'
            paths[name].write_bytes(lzma.decompress(packed.read_bytes()))
    return paths


@pytest.mark.parametrize('name', FILES)
@torch.no_grad()
def test_denoised_as_recorded(name, pickles, goldens):
    recorded = goldens(name)
    model = init_model(pickles[name], device='cpu')
    found = model.denoiser(recorded['x'], recorded['sigmas'], recorded.get('labels'))
    scale = max(1.0, recorded['denoised'].abs().max().item())
    torch.testing.assert_close(found, recorded['denoised'], rtol=0, atol=2e-5 * scale)


def test_the_config_is_in_the_file(pickles, goldens):
    for name in FILES:
        theirs = json.loads(str(goldens(name)['init_kwargs']))
        model = init_model(pickles[name], device='cpu')
        assert model.image_shape == (3, theirs['img_resolution'], theirs['img_resolution'])
        assert model.num_classes == (theirs['label_dim'] or None)
        assert model.sampler.num_evaluations == (1 if name.startswith('ect') else 35)
        dropout = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert set(dropout) == {theirs['dropout']}
    images, _ = generate(model, 2)
    assert images.shape == (2, 32, 32, 3)


def test_converted_it_draws_the_same(pickles, run_script, tmp_path):
    name = 'edm_pickle_tiny_ddpmpp'
    tool, out = 'tools/model_converters/convert.py', tmp_path / 'x.safetensors'
    code, _, said = run_script(tool, pickles[name], '--to', 'ours', '--out', out)
    assert code == 0, said
    images, _ = generate(init_model(pickles[name], device='cpu'), 2)
    assert np.array_equal(generate(init_model(out, device='cpu'), 2)[0], images)
    code, _, said = run_script(tool, pickles[name], '--to', 'openai', '--out', tmp_path / 'x.pt')
    assert code == 1
    assert 'ADMUNet' in said


# --- ECT's descendants, whose files tell by their source alone what they compute ---

ECT = """
c_skip = self.sigma_data ** 2 / ((sigma - self.sigma_min) ** 2 + self.sigma_data ** 2)
"""
TCM = """
c_skip = self.sigma_data ** 2 / (sigma ** 2 + self.sigma_data ** 2)
"""


@pytest.fixture
def as_pickled(pickles, goldens, write_nvlabs):
    """``as_pickled(name, ...)``: the weights of a recorded file, in one of another class."""

    def make(name: str, **settings):
        weights = read_checkpoint(pickles[name])['state_dict']
        weights = {key.removeprefix('denoiser.network.'): value for key, value in weights.items()}
        theirs = json.loads(str(goldens(name)['init_kwargs'])) | dict(in_channels=3, out_channels=3)
        return write_nvlabs(weights, theirs, **settings)

    return make


@pytest.mark.parametrize(
    ('denoiser', 'source', 'shift'),
    [('ECMPrecond', ECT, 0.003), ('ECMPrecond', TCM, 0.0), ('EDMPrecond', ECT, 0.0)],
    ids=['CMT', 'TCM', 'EDM'],
)
@torch.no_grad()
def test_whether_the_class_shifts_by_sigma_min(denoiser, source, shift, as_pickled, goldens):
    recorded = goldens('ect_pickle_tiny')
    path = as_pickled('ect_pickle_tiny', denoiser=denoiser, source=source, sigma_min=0.003)
    model = init_model(path, device='cpu')
    x, sigma = recorded['x'], recorded['sigmas'].reshape(-1, 1, 1, 1)
    c_skip = 0.25 / ((sigma - shift) ** 2 + 0.25)
    c_out = 0.5 * (sigma - shift) / (sigma**2 + 0.25).sqrt()
    expected = c_skip * x + c_out * recorded['raw_output']
    found = model.denoiser(x, recorded['sigmas'], recorded.get('labels'))
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * scale)
    assert model.sampler.num_evaluations == (35 if denoiser == 'EDMPrecond' else 1)


def test_the_source_is_not_run(as_pickled, tmp_path):
    source = f'import os\nos.system("touch {tmp_path / "ran"}")\n'
    read_checkpoint(as_pickled('ect_pickle_tiny', source=source))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(denoiser='ECMPrecond', network='EDM2UNet', sigma_min=0.002), 'EDM2UNet'),
        (dict(denoiser='Precond', network='UNet'), 'Precond'),
        (dict(denoiser='VPPrecond'), 'VPPrecond'),
    ],
)
def test_other_networks_and_scalings_are_named(settings, name, as_pickled):
    with pytest.raises(InputError, match=f'a {name}, which is not known here') as caught:
        init_model(as_pickled('ect_pickle_tiny', **settings), device='cpu')
    assert 'refused' not in str(caught.value)


# --- into models of ours: as a start, as a teacher, with its settings ---


@pytest.fixture
def student(pickles):
    """``student(name, ...)``: the config of a consistency model of a file's network."""

    def config(name: str, network=(), **settings) -> dict:
        denoiser = load_config(pickles[name]).model.denoiser.to_dict()
        denoiser |= dict(
            parameterization='consistency', network=denoiser['network'] | dict(network)
        )
        model = dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser)
        return model | settings

    return config


@pytest.mark.parametrize('name', ['edm_pickle_tiny_ddpmpp', 'edm_pickle_tiny_adm'])
@pytest.mark.parametrize('start', ['teacher', 'the file'])
@torch.no_grad()
def test_a_teacher_and_a_start(name, start, student, pickles, goldens):
    path, recorded = str(pickles[name]), goldens(name)
    settings = dict(
        objective=dict(type='ConsistencyDistillation'),
        teacher=dict(checkpoint=path),
        init_from='teacher' if start == 'teacher' else path,
    )
    model = MODELS.build(student(name, **settings))
    model.init_weights()
    found = model.teacher(recorded['x'], recorded['sigmas'], recorded.get('labels'))
    scale = max(1.0, recorded['denoised'].abs().max().item())
    torch.testing.assert_close(found, recorded['denoised'], rtol=0, atol=2e-5 * scale)
    expected = model.teacher.denoiser.state_dict()
    for part in (model.denoiser, model.target):
        assert all(torch.equal(expected[key], value) for key, value in part.state_dict().items())


@torch.no_grad()
def test_what_tells_of_augmentation_is_left_out_where_there_is_no_place_for_it(
    pickles, goldens, student
):
    recorded = goldens('edm_pickle_tiny_ddpmpp')
    model = MODELS.build(student('edm_pickle_tiny_ddpmpp', dict(augment_dim=0))).eval()
    assert not any('map_augment' in key for key in model.state_dict())
    model.load_weights(pickles['edm_pickle_tiny_ddpmpp'])
    found = model.denoiser.network(
        recorded['x'] / (recorded['sigmas'] ** 2 + 0.25).sqrt().reshape(-1, 1, 1, 1),
        recorded['c_noise'],
    )
    torch.testing.assert_close(found, recorded['raw_output'], rtol=0, atol=1e-4)
    told = MODELS.build(student('ect_pickle_tiny', dict(augment_dim=9)))
    with pytest.raises(InputError, match=r'map_augment\.weight is missing'):
        told.load_weights(pickles['ect_pickle_tiny'])


@pytest.mark.parametrize('as_what', ['weights', 'teacher', 'init_from'])
def test_a_network_that_is_told_the_level_otherwise(as_what, student, pickles):
    path = str(pickles['edm_pickle_tiny_adm'])
    cfg = student('edm_pickle_tiny_adm')
    cfg['denoiser']['c_noise'] = 'adm'
    if as_what == 'teacher':
        cfg |= dict(objective=dict(type='ConsistencyDistillation'), teacher=dict(checkpoint=path))
    elif as_what == 'init_from':
        cfg |= dict(objective=dict(type='ConsistencyTraining'), init_from=path)
    model = MODELS.build(cfg)
    load = model.init_weights if as_what != 'weights' else lambda: model.load_weights(path)
    with pytest.raises(InputError, match=r"\.pkl: .* c_noise 'edm', and this model says 'adm'"):
        load()


def test_scalings_under_which_it_was_not_trained(student, pickles):
    cfg = dict(model=student('edm_pickle_tiny_ddpmpp'))
    with pytest.raises(InputError, match=r'of the edm parameterization, .* says consistency'):
        init_model(cfg, pickles['edm_pickle_tiny_ddpmpp'], 'cpu')


@pytest.mark.parametrize('to', ['openai', 'diffusers'])
def test_other_codes_do_not_know_c_noise(to, pickles, run_script, tmp_path):
    source = pickles['edm_pickle_tiny_adm']
    args = ('--to', to, '--out', tmp_path / 'x.pt')
    code, _, said = run_script('tools/model_converters/convert.py', source, *args)
    assert code == 1
    assert "c_noise 'edm'" in said


def test_one_file_is_read_once(pickles, run_script, tmp_path):
    with mock.patch.object(checkpoint, 'read_checkpoint', wraps=read_checkpoint) as read:
        path = pickles['ect_pickle_tiny']
        args = ('--num-samples', 1, '--device', 'cpu', '--out', tmp_path / 'x.npz')
        code, _, said = run_script('tools/sample.py', path, *args)
    assert code == 0, said
    assert read.call_count == 1


# --- hostile files ---


class Call:
    """What a pickle calls when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dumped(value) -> bytes:
    return pickle.dumps(value, 4)[2:-1]


def named(module, name) -> bytes:
    return f'c{module}\n{name}\n'.encode()


OBJECT = named('torch_utils.persistence', '_reconstruct_persistent_obj')
GETATTR = named('builtins', 'getattr')
STORAGE = torch.zeros(4).storage()


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def tensor(*arguments) -> bytes:
    function = torch._utils._rebuild_tensor_v2
    return dumped(Call(function, Call(torch.storage._load_from_bytes, saved(STORAGE)), *arguments))


def from_bytes(data) -> bytes:
    return dumped(Call(torch.storage._load_from_bytes, data))


def number(kind: str, data: bytes) -> bytes:
    dtype = named('numpy', 'dtype') + dumped((kind, False, True)) + b'R'
    return named('numpy.core.multiarray', 'scalar') + dtype + dumped(data) + b'\x86R'


def hostile(folder) -> dict[str, bytes]:
    """Bodies of pickles, by what they try."""
    touch = f'touch {folder / "ran"}'
    bomb = dumped(('a', 'a'))
    for _ in range(60):
        bomb += b'\x94h\x00\x86'.replace(b'h\x00', b'2')  # a pair of itself
    module = OBJECT + dumped({'class_name': 'SongUNet', 'state': {}}) + b'\x85R'
    return {
        'a function': dumped(Call(os.system, touch)),
        'a builtin': named('builtins', 'eval') + dumped(('1',)) + b'R',
        'an attribute of an attribute': GETATTR + GETATTR + dumped('__globals__') + b'\x86R',
        'a call of an attribute': GETATTR
        + module
        + dumped('x')
        + b'\x86R'
        + dumped((touch,))
        + b'R',
        'a call of an object': module + dumped(()) + b'R',
        'a call of a text': dumped('os.system') + dumped((touch,)) + b'R',
        'a pickle in a pickle': from_bytes(saved(Call(os.system, touch))),
        'a storage of text': dumped(Call(torch.storage._load_from_bytes, 'text')),
        'a storage that is a list': from_bytes(saved([1, 2])),
        'a storage cut short': from_bytes(saved(STORAGE)[:-40]),
        'a tensor of one number': tensor(0, (10**6, 10**6), (0, 0), False, {}),
        'a tensor beyond its storage': tensor(0, (5,), (1,), False, {}),
        'a tensor before its storage': tensor(-1, (1,), (1,), False, {}),
        'a tensor of text': tensor(0, ('4',), (1,), False, {}),
        'a tensor of another': named('torch._utils', '_rebuild_tensor_v2')
        + dumped(([1, 2], 0, (1,), (1,), False, {}))
        + b'R',
        'objects of numpy': named('numpy.core.multiarray', 'scalar')
        + named('numpy', 'dtype')
        + dumped(('O8', False, True))
        + b'R'
        + dumped(b'12345678')
        + b'\x86R',
        'a number of many': named('numpy.core.multiarray', 'scalar')
        + named('numpy', 'dtype')
        + dumped(('f8', False, True))
        + b'R'
        + dumped(bytes(800))
        + b'\x86R',
        'a key that takes years': b'}' + bomb + b'K\x01s',
        'a byte array of 12 GiB': b'\x96' + struct.pack('<Q', 12 << 30),
        'bytes of a terabyte': b'\x8e' + struct.pack('<Q', 1 << 40),
        'a frame of a terabyte': b'\x95' + struct.pack('<Q', 1 << 40),
        'a place far away': b'Kr'.replace(b'r', b'\x01') + b'r' + struct.pack('<I', 2**32 - 1),
        'an extension': b'\x82\x01',
        'an instance': b'(ios\nsystem\n',
        'a persistent name': b'Pname\n',
        'attributes of a tensor': tensor(0, (1,), (1,), False, {}) + dumped({'a': 1}) + b'b',
        'an item of a tensor': tensor(0, (1,), (1,), False, {}) + dumped('a') + b'K\x01s',
        'more of an object': module + b'K\x01a',
        'no network': dumped({'ema': 3}),
        'another network': b'}' + dumped('ema') + module + b's',
    }


HOSTILE = [*hostile(Path())]


@pytest.mark.parametrize('what', HOSTILE)
def test_hostile_files_do_nothing(what, tmp_path):
    path = tmp_path / 'x.pkl'
    path.write_bytes(b'\x80\x04\x8c\x17torch_utils.persistence0' + hostile(tmp_path)[what] + b'.')
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r'x\.pkl'):
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert not (tmp_path / 'ran').exists()


def test_a_module_in_itself_is_read_once():
    module = Held('SongUNet')
    module.state = {'_modules': {'a': module, 'b': module}, '_parameters': {'w': torch.ones(1)}}
    assert [name for name, _ in tensors_of(module)] == ['w']
