"""Flax checkpoints of the paper's JAX code: the reference's outputs; what hostile ones promise."""

import json
import shutil
import struct
import tracemalloc

import msgpack
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmagic_cm.apis import generate, init_model
from mmagic_cm.checkpoints import is_checkpoint, read_checkpoint, register_safe_loaders
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS

NAME = 'jax_ncsnpp_tiny'


@pytest.fixture
def path(data):
    return data / 'goldens' / f'{NAME}.msgpack'


@pytest.fixture(scope='module')
def recorded(goldens) -> dict:
    return goldens(NAME)


@pytest.fixture
def cfg(recorded) -> Config:
    """Of its network; the file does not say it."""
    theirs = json.loads(str(recorded['config']))
    network = dict(
        type='SongUNet',
        image_size=theirs['image_size'],
        model_channels=theirs['nf'],
        channel_mult=theirs['ch_mult'],
        num_res_blocks=theirs['num_res_blocks'],
        attention_resolutions=theirs['attn_resolutions'],
        channel_mult_noise=2,
        embedding='fourier',
        encoder='residual',
        resample_filter=[1, 3, 3, 1],
    )
    denoiser = dict(type='KarrasDenoiser', network=network)
    return Config(dict(model=dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser)))


def assert_as_recorded(found, expected):
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5 * scale)


@pytest.mark.parametrize(
    ('ema', 'key'),
    [
        ('auto', 'output'),
        (0.9999, 'output'),
        ('target', 'output_target_params'),
        (None, 'output_params'),
    ],
)
@torch.no_grad()
def test_the_networks_give_the_recorded(ema, key, path, cfg, recorded):
    network = init_model(cfg, path, 'cpu', ema=ema).denoiser.network
    assert_as_recorded(network(recorded['x'], recorded['c_noise']), recorded[key])


@pytest.mark.parametrize('parameterization', ['edm', 'consistency'])
@torch.no_grad()
def test_denoised_as_recorded(parameterization, path, cfg, recorded):
    cfg.model.denoiser.parameterization = parameterization
    found = init_model(cfg, path, 'cpu').denoiser(recorded['x_t'], recorded['sigmas'])
    assert_as_recorded(found, recorded[f'denoised_{parameterization}'])


def test_by_any_name_wherever_a_checkpoint_is(path, cfg, recorded, tmp_path):
    named = tmp_path / 'checkpoint_80'
    shutil.copy(path, named)
    assert is_checkpoint(named)
    objective = dict(type='ConsistencyDistillation')
    training = dict(objective=objective, teacher=dict(checkpoint=str(named)), init_from=str(named))
    model = MODELS.build(dict(cfg.model, **training))
    model.init_weights()
    loaded = MODELS.build(cfg.model)
    register_safe_loaders()  # `load_from`; it takes the online network
    mmengine_checkpoint.load_checkpoint(loaded, str(named), 'cpu', strict=False, logger='silent')
    for part, key in (
        (model.denoiser, 'output'),
        (model.target, 'output'),
        (model.teacher.denoiser, 'output'),
        (loaded.denoiser, 'output_params'),
    ):
        with torch.no_grad():
            found = part.eval().network(recorded['x'], recorded['c_noise'])
        assert_as_recorded(found, recorded[key])


def test_without_a_config_it_is_not_enough(path, tmp_path):
    with pytest.raises(InputError, match='holds no config: give a config file or a released name'):
        init_model(path, device='cpu')


@pytest.mark.parametrize(
    'change',
    [
        dict(num_res_blocks=3),
        dict(model_channels=8),
        dict(embedding='positional'),
        dict(encoder='standard'),
        dict(resample_filter=[1, 1]),
        dict(num_classes=10),
    ],
)
def test_another_network_is_refused(change, path, cfg):
    cfg.model.denoiser.network.update(change)
    with pytest.raises(InputError, match='does not fit this model'):
        init_model(cfg, path, 'cpu')


def test_names_and_shapes_alone(path):
    found = read_checkpoint(path, 'meta')
    sets = [found['state_dict'], *found['emas'].values()]
    assert all(tensor.is_meta for weights in sets for tensor in weights.values())
    assert [*found['emas']] == ['0.9999']


def test_converted_it_draws_the_same(path, cfg, run_script, tmp_path):
    tool, config = 'tools/model_converters/convert.py', tmp_path / 'ncsnpp.py'
    cfg.dump(config)
    expected, _ = generate(init_model(cfg, path, 'cpu'), 2)
    for out in (tmp_path / 'x.safetensors', tmp_path / 'x.pth'):
        code, _, said = run_script(tool, path, '--to', 'ours', '--out', out, '--config', config)
        assert code == 0, said
        assert np.array_equal(generate(init_model(out, device='cpu'), 2)[0], expected)
    for layout, out, word in (
        ('openai', 'x.pt', 'ADMUNet'),
        ('diffusers', 'folder', 'c_noise'),
        ('ours', 'y.pth', '--config'),
    ):
        more = () if layout == 'ours' else ('--config', config)
        code, _, said = run_script(tool, path, '--to', layout, '--out', tmp_path / out, *more)
        assert code == 1
        assert word in said


# --- hostile files ---


def array(shape, kind, values, code=1):
    return msgpack.ExtType(code, msgpack.packb((shape, kind, values)))


FOUR = array((4,), 'float32', bytes(16))
RATE = array((), 'float32', struct.pack('<f', 0.5))


def file(packed, params, **other) -> bytes:
    return packed({'params': params, 'params_ema': {}, 'ema_rate': RATE, **other})


def chunked(sizes, *parts, **other):
    shape, chunks = ({str(i): part for i, part in enumerate(items)} for items in (sizes, parts))
    return {'__msgpack_chunked_array__': True, 'shape': shape, 'chunks': chunks, **other}


def leaf(value):
    return dict(Conv_0=dict(bias=value))


def nested(levels):
    tree = FOUR
    for _ in range(levels):
        tree = dict(a=tree)
    return tree


PARAMS = {
    'a shape beyond the bytes': leaf(array((10**6, 10**6), 'float32', bytes(16))),
    'a shape within the bytes': leaf(array((3,), 'float32', bytes(16))),
    'a shape that overflows': leaf(array((2**63, 2), 'float32', b'')),
    'a shape that wraps around': leaf(array((2**32, 2**32), 'float32', bytes(4))),
    'a negative shape': leaf(array((-1, 4), 'float32', bytes(16))),
    'two negative sizes': leaf(array((-2, -2), 'float32', bytes(16))),
    'a shape of text': leaf(array('4', 'float32', bytes(16))),
    'a shape of truths': leaf(array((True, 4), 'float32', bytes(16))),
    'a shape of a thousand axes': leaf(array((1,) * 1000, 'float32', bytes(4))),
    'objects': leaf(array((2,), 'object', bytes(16))),
    'raw bytes': leaf(array((2,), 'V8', bytes(16))),
    'a structure': leaf(array((2,), 'f4,f4', bytes(16))),
    'complex numbers': leaf(array((2,), 'complex64', bytes(16))),
    'a list as type': leaf(array((4,), ['float32'], bytes(16))),
    'a name of torch': leaf(array((4,), 'Tensor', bytes(16))),
    'text as bytes': leaf(array((4,), 'float32', 'x' * 16)),
    'half a number': leaf(array((4,), 'float32', bytes(15))),
    'no numbers': leaf(array((0,), 'float32', b'')),
    'four members': leaf(msgpack.ExtType(1, msgpack.packb(((4,), 'float32', bytes(16), 1)))),
    'a map as array': leaf(msgpack.ExtType(1, msgpack.packb({'a': 1}))),
    'an array of arrays': leaf(array((4,), 'float32', FOUR)),
    'an empty extension': leaf(msgpack.ExtType(1, b'')),
    'a complex number': leaf(msgpack.ExtType(2, bytes(16))),
    'an unknown extension': leaf(msgpack.ExtType(77, bytes(16))),
    'a timestamp': leaf(msgpack.Timestamp(1, 1)),
    'a number': leaf(5),
    'a list': leaf([1, 2]),
    'a list of arrays': [FOUR],
    'nothing': None,
    'deep': nested(9),
    'deeper': nested(500),
    'a key that is a number': {1: FOUR},
    'a key of bytes': {b'Conv_0': FOUR},
    'a key that is an array': {array((), 'float32', bytes(4)): FOUR},
    'a long key': {'a' * 1000: FOUR},
    'no chunks': leaf(chunked((4,))),
    'a missing chunk': leaf(chunked((8,), FOUR, None)),
    'chunks that are not enough': leaf(chunked((9,), FOUR, FOUR)),
    'chunks with a negative shape': leaf(chunked((-1,), FOUR)),
    'chunks that are not in order': leaf(chunked((4,), chunks={'1': FOUR})),
    'chunks in chunks': leaf(chunked((4,), chunked((4,), FOUR))),
    'chunks in a list': leaf(chunked((4,), chunks=[FOUR])),
    'a shape that is none': leaf(chunked((4,), FOUR, shape=4)),
}


def huge(code: int, extra: bytes = b'') -> bytes:
    """A value whose length is claimed to be 4 GiB."""
    return bytes([code]) + struct.pack('>I', 2**32 - 1) + extra


def bodies(packed) -> dict[str, bytes]:
    """Files, by what they try."""
    start, params = b'\x83', packed('params')
    files = {what: file(packed, tree) for what, tree in PARAMS.items()}
    claims = {'bytes': 0xC6, 'an extension': 0xC9, 'a text': 0xDB, 'a list': 0xDD, 'a map': 0xDF}
    for what, code in claims.items():
        more = b'\x01' if what == 'an extension' else b''
        files[f'{what} of gigabytes'] = start + params + huge(code, more)
        files[f'{what} of gigabytes, skipped'] = start + packed('opt_state') + huge(code, more)
    return files | {
        'lists in lists, each claiming all': start + params + huge(0xDD) * 10**4,
        'lists in an array': start
        + params
        + packed(msgpack.ExtType(1, b'\xdd\x00\x01\x00\x00' * 10**4)),
        'maps in maps': start + params + b'\x81\xa1a' * 10**5,
        'maps in maps, skipped': start + packed('opt_state') + b'\x81\xa1a' * 10**5,
        'a key of 4 GiB': start + huge(0xDB),
        'a key that is a map': b'\x81\xa1a\x80'.join([b'\x82', b'']) + b'\x81\x80\x80',
        'only the beginning': start + params,
        'another program': packed({'model': {'a': FOUR}}),
        'no average': packed({'params': leaf(FOUR), 'ema_rate': RATE}),
        'a rate of several': file(packed, leaf(FOUR), ema_rate=FOUR),
        'no rate': file(packed, leaf(FOUR), ema_rate=array((), 'float32', struct.pack('<f', 7))),
        'a rate that is no number': file(packed, leaf(FOUR), ema_rate={}),
        'no type': b'\x81\xa6params\xc1',
    }


KINDS = [*bodies(msgpack.packb)]


@pytest.mark.parametrize('what', KINDS)
def test_hostile_files_are_refused_and_take_no_memory(what, packed, tmp_path):
    path = tmp_path / 'checkpoint_1'
    path.write_bytes(bodies(packed)[what])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match='checkpoint_1') as caught:
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 2**21 + 4 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert '\n' not in str(caught.value)


def test_bfloat16_is_named(packed, tmp_path):
    (tmp_path / 'x').write_bytes(file(packed, leaf(array((2,), 'bfloat16', bytes(4)))))
    with pytest.raises(InputError, match="numbers of the type 'bfloat16'"):
        read_checkpoint(tmp_path / 'x')


def test_chunks_are_joined_and_scalars_read(packed, tmp_path):
    values = np.arange(8, dtype=np.float32)
    tree = leaf(chunked((2, 4), values[:5], values[5:]))
    tree['scalar'] = array((), 'int32', struct.pack('<i', 7), code=3)
    (tmp_path / 'x').write_bytes(file(packed, tree))
    found = read_checkpoint(tmp_path / 'x')['state_dict']
    assert found['denoiser.network.Conv_0/bias'].tolist() == values.reshape(2, 4).tolist()
    assert found['denoiser.network.scalar'] == 7


def test_damaged_files_are_read_or_refused_but_never_crash(path, tmp_path):
    random, content = np.random.default_rng(0), path.read_bytes()[:20_000]
    damaged, refused = tmp_path / 'checkpoint_1', 0
    for share in (0.001, 0.1, 0.5, 0.9):
        damaged.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match='checkpoint_1'):
            read_checkpoint(damaged)
    small = msgpack.packb(
        {'params': leaf(FOUR), 'params_ema': leaf(FOUR), 'ema_rate': RATE, 'opt_state': {'0': FOUR}}
    )
    for _ in range(500):
        spoiled = bytearray(small)
        for place in random.integers(2, len(small), size=3):
            spoiled[place] = random.integers(256)
        damaged.write_bytes(spoiled)
        try:
            read_checkpoint(damaged)
        except InputError:
            refused += 1
    assert refused > 100


def test_the_optimizer_s_state_is_skipped(path, tmp_path, packed):
    content = msgpack.unpackb(path.read_bytes(), ext_hook=msgpack.ExtType)
    content['opt_state'] = {str(i): array((10**6,), 'float32', bytes(4 * 10**6)) for i in range(9)}
    (tmp_path / 'x').write_bytes(packed(dict(sorted(content.items()))))
    tracemalloc.start()
    try:
        found = read_checkpoint(tmp_path / 'x')
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found['state_dict'].keys() == read_checkpoint(path)['state_dict'].keys()
    assert peak < 15 * 10**6 < (tmp_path / 'x').stat().st_size / 2


def test_the_tree_of_the_tests_is_theirs(path, cfg, jax_tree, packed):
    network = init_model(cfg, path, 'cpu').denoiser.network
    theirs = msgpack.unpackb(path.read_bytes(), ext_hook=msgpack.ExtType)['params_ema']
    ours = msgpack.unpackb(packed(jax_tree(network)), ext_hook=msgpack.ExtType)
    assert ours == theirs
