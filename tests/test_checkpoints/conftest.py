"""Recorded models, and their weights in a file of each layout."""

import functools
import http.server
import json
import pickle
import shutil
import sys
import threading
import types
from collections import OrderedDict

import msgpack
import numpy as np
import pytest
import torch
from mmengine import Config
from torch import nn

from mmagic_cm.checkpoints.conversion import Source
from mmagic_cm.checkpoints.jax_layout import _layers
from mmagic_cm.checkpoints.writing import write_openai
from mmagic_cm.registry import MODELS


class Recorded:
    """A model of the reference numbers: its config, its weights, and what it must give."""

    def __init__(self, arrays: dict, fill, parameterization: str) -> None:
        network = json.loads(str(arrays['config']))
        size = network['image_size']
        network['attention_resolutions'] = [size // f for f in network['attention_resolutions']]
        self.arrays, self.parameterization = arrays, parameterization
        self.cfg = Config(
            dict(
                model=dict(
                    type='ConsistencyModel',
                    _scope_='mmagic_cm',
                    denoiser=dict(
                        type='KarrasDenoiser',
                        parameterization=parameterization,
                        network=dict(type='ADMUNet', **network),
                    ),
                    sampler=dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40),
                )
            )
        )
        self.model = MODELS.build(self.cfg.model).eval()
        fill(self.model.denoiser.network, int(arrays['seed']))
        self.weights = dict(self.model.denoiser.network.state_dict())

    def source(self) -> Source:
        cfg = Config(self.cfg.to_dict())
        return Source('x', dict(self.weights), cfg, self.model.denoiser, None, None)

    def assert_gives_the_recorded(self, model) -> None:
        labels = self.arrays.get('labels')
        with torch.no_grad():
            found = model.denoiser(self.arrays['x_t'], self.arrays['sigmas'], labels)
        expected = self.arrays[f'denoised_{self.parameterization}']
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope='session')
def recorded(goldens, fill):
    """``recorded('cond')``: made once; do not change it."""

    @functools.cache
    def make(name: str, parameterization: str = 'consistency') -> Recorded:
        return Recorded(goldens(f'unet_tiny_{name}'), fill, parameterization)

    return make


def shifted(weights: dict) -> dict:
    return {name: tensor + 1 for name, tensor in weights.items()}


def write(layout: str, recorded: Recorded, folder):
    """A file or folder of the model in a layout; returns what a user would name."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = recorded.weights
    if layout == 'openai':
        write_openai(weights, folder / 'ema_0.9999_000100.pt')
        return folder / 'ema_0.9999_000100.pt'
    if layout == 'training':  # the EMA is right, online and target network are not
        prefixes = ('denoiser.network.', 'target.network.')
        state = OrderedDict((p + k, v) for p in prefixes for k, v in shifted(weights).items())
        averages = [{f'network.{k}': v for k, v in w.items()} for w in (weights, shifted(weights))]
        emas = {'0.9999': averages[0], '0.9': averages[1]}
        meta = dict(iter=100, cfg=recorded.cfg.pretty_text)
        torch.save(dict(meta=meta, state_dict=state, emas=emas, optimizer={}), folder / 'iter.pth')
        return folder / 'iter.pth'
    if layout in ('published.safetensors', 'published.pth'):
        recorded.source().write_ours(folder / layout)
        return folder / layout
    recorded.source().write_diffusers(folder / 'diffusers')
    return folder / 'diffusers'


@pytest.fixture(scope='session')
def _masters(recorded, tmp_path_factory):
    """Each file is made once."""

    @functools.cache
    def make(*case: str):
        layout, *rest = case
        return write(layout, recorded(*rest), tmp_path_factory.mktemp('masters'))

    return make


@pytest.fixture
def written(_masters, tmp_path):
    """``written(layout, name)``: a file of that layout, for the test to keep."""

    def copy(layout: str, name: str = 'cond', parameterization: str = 'consistency'):
        part = dict(unet='unet', file='unet/diffusion_pytorch_model.safetensors').get(layout)
        master = _masters('diffusers' if part else layout, name, parameterization)
        path = tmp_path / 'written' / master.name
        path.parent.mkdir(exist_ok=True)
        (shutil.copytree if master.is_dir() else shutil.copy)(master, path)
        return path / part if part else path

    return copy


@pytest.fixture
def server(tmp_path, monkeypatch):
    """``(folder, address)`` of a web server, with a cache of downloads of its own."""
    monkeypatch.delenv('MMAGIC_CM_CACHE', raising=False)
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    folder = tmp_path / 'www'
    folder.mkdir()

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


class Persistent:
    """Pickles as NVlabs' code pickles an object: what it is called, its source, what it holds."""

    def __init__(self, name, source='', modules=None, **state):
        state |= dict(_parameters=OrderedDict(), _buffers=OrderedDict())
        state |= dict(_modules=OrderedDict(modules or {}))
        self.name, self.source, self.state = name, source, state

    def child(self, name):
        return self.state['_modules'].setdefault(name, Persistent('Block'))

    def __reduce__(self):
        meta = dict(type='class', version=6, module_src=self.source, class_name=self.name)
        return _reconstruct_persistent_obj, (dict(meta, state=self.state),)


def _reconstruct_persistent_obj(meta):
    raise AssertionError('their code is not called')


_reconstruct_persistent_obj.__module__ = 'torch_utils.persistence'


@pytest.fixture
def write_nvlabs(tmp_path, monkeypatch):
    """``write_nvlabs(weights, init_kwargs, ...)``: a pickle of NVlabs' kind; its path."""
    for name in ('torch_utils', 'torch_utils.persistence'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules['torch_utils.persistence']._reconstruct_persistent_obj = _reconstruct_persistent_obj

    def write(weights, init_kwargs, denoiser='EDMPrecond', network='SongUNet', source='', **state):
        inner = Persistent(network, source, _init_kwargs=init_kwargs)
        for name, tensor in weights.items():
            *path, last = name.split('.')
            module = functools.reduce(Persistent.child, path, inner)
            kind = '_buffers' if last in ('freqs', 'resample_filter') else '_parameters'
            module.state[kind][last] = tensor if kind == '_buffers' else nn.Parameter(tensor)
        outer = Persistent(denoiser, source, dict(model=inner), sigma_data=0.5, **state)
        content = dict(ema=outer, loss_fn=None, augment_pipe=None, dataset_kwargs={})
        with open(tmp_path / 'network.pkl', 'wb') as file:
            pickle.dump(content, file, 4)
        return tmp_path / 'network.pkl'

    return write


@pytest.fixture(scope='session')
def packed():
    """``packed(tree)``: a tree of arrays as flax packs it; of texts and numbers, too."""

    def extension(array):
        content = array.shape, array.dtype.name, array.tobytes()
        return msgpack.ExtType(1, msgpack.packb(content))

    return functools.partial(msgpack.packb, default=extension)


@pytest.fixture(scope='session')
def jax_tree():
    """``jax_tree(network)``: a SongUNet's parameters by flax's names, in nested dictionaries."""

    def make(network) -> dict:
        weights, tree = network.state_dict(), {}
        for ours, theirs in _layers([*weights]):
            for parameter in ('weight', 'bias', 'freqs'):
                name = f'{ours}.{parameter}'
                if name not in weights:
                    continue
                whole = weights[name].numpy()
                for i, layer in enumerate(theirs):
                    part = whole[i::3] if len(theirs) == 3 else whole
                    if 'NIN' in layer and parameter == 'weight':
                        part = part[:, :, 0, 0]
                    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[part.ndim]
                    inner = functools.reduce(
                        lambda t, n: t.setdefault(n, {}), layer.split('/'), tree
                    )
                    inner[ending(layer, parameter)] = np.ascontiguousarray(part.transpose(axes))
        return tree

    def ending(layer: str, parameter: str) -> str:
        kind = layer.split('/')[-1].rpartition('_')[0]
        special = dict(GroupNorm=('scale', 'bias'), NIN=('W', 'b'), Conv2d=('weight', 'bias'))
        weight, bias = special.get(kind, ('kernel', 'bias'))
        return dict(weight=weight, bias=bias, freqs='W')[parameter]

    return make
