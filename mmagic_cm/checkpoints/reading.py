"""Reading checkpoints without unpickling: ``weights_only=True`` or safetensors, whoever reads.

A pickle executes code. MMEngine's own checkpoints name a few classes beside tensors (the log
history); exactly these are allowed, so that resuming works and a hostile file does not.
"""

import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..io.cached_file import CachedFile, cache_folder
from ..io.files import existing_file
from .diffusers_pipeline import model_config
from .jax import is_flax, read_jax
from .layouts import is_diffusers
from .nvlabs import is_nvlabs, read_nvlabs
from .pickles import is_saved, load_pickled
from .released import find_checkpoint, find_released

# Of a safetensors file: our settings, as JSON (a single key: their order in the file is random).
META_KEY = 'mmagic_cm'
DIFFUSERS_WEIGHTS = 'diffusion_pytorch_model'
_ENDINGS = (
    *('.safetensors', '.safetensors.index.json', '.bin'),
    *('.fp16.safetensors', '.safetensors.index.fp16.json', '.fp16.bin'),
)


def read_checkpoint(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> dict:
    """Read weights; every loader of this package and, through it, of MMEngine ends here.

    Args:
        path: A file, by whatever name: MMEngine's, the paper's, a plain state dict, safetensors,
            a pickle of NVlabs' EDM and its descendants, a flax checkpoint of the paper's JAX code;
            a folder of a diffusers pipeline or of its UNet2DModel, or the file of weights in it; a
            released name, which means its file in the cache; an http address.
        map_location: As of :func:`torch.load`; 'meta' for names and shapes alone.
        mmap: Map the file into memory, so that only what is used takes room there. For those who
            copy at once what they need: who writes the file anew kills the process that has it
            mapped.

    Returns:
        The dictionary in the file. Of safetensors ``dict(state_dict=..., meta=...)``, where meta
        is what :mod:`.writing` has put there; of a folder of diffusers' pipeline, and of NVlabs'
        pickles, meta is the config that they amount to. Of JAX, see :func:`.jax.read_jax`.

    Raises:
        InputError: No such file; a file that is no checkpoint, is cut short, or holds anything
            but tensors, numbers, text and MMEngine's log history; tensors larger than the file.
    """
    if str(path).startswith(('http://', 'https://')):
        return load_from_http(str(path), map_location)
    path = find_checkpoint(path)
    if path.is_dir():
        path = _weights_in(path)
    existing_file(path, 'regular file of weights')
    if path.suffix == '.json':
        checkpoint = _read_shards(path, map_location)
    elif path.suffix == '.safetensors' or _is_safetensors(_beginning(path)):
        checkpoint = _read_safetensors(path, map_location)
    else:
        checkpoint = _read_other(path, map_location, mmap)
    _check_entries(path, checkpoint)
    weights = checkpoint.get('state_dict', checkpoint)
    if is_diffusers(weights) and (path.parent / 'config.json').is_file():
        weights, unet = OrderedDict(weights), _read_unet_config(path.parent / 'config.json')
        # Beside a state dict, so that it comes along through every loader.
        weights._metadata = {'': {'unet_config': unet}}
        checkpoint = dict(state_dict=weights)
        scheduler = path.parent / '../scheduler/scheduler_config.json'
        if scheduler.is_file():
            checkpoint['meta'] = _read_model_config(unet, scheduler)
    return checkpoint


def _weights_in(folder: Path) -> Path:
    """The file of weights of a diffusers folder."""
    for place in (folder / 'unet', folder):
        for ending in _ENDINGS:
            path = place / f'{DIFFUSERS_WEIGHTS}{ending}'
            if path.is_file():
                return path
    raise InputError(
        f'The folder {folder} holds no weights: a folder of diffusers has them as '
        f'unet/{DIFFUSERS_WEIGHTS}.safetensors.'
    )


def looks_like_weights(path: Path) -> bool:
    """Whether a file begins as those do that are read here; not where it cannot be opened."""
    try:
        beginning = _beginning(path)
    except InputError:
        return False
    kinds = (_is_safetensors, is_saved, is_nvlabs, is_flax)
    return any(is_kind(beginning) for is_kind in kinds)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read(4096)
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error}') from error


def _is_safetensors(beginning: bytes) -> bool:
    """By its content: the length of a header, then the header, which is JSON."""
    return beginning[8:9] == b'{' and beginning[4:8] == bytes(4)


def _device(map_location: Any) -> str | torch.device:
    return map_location if isinstance(map_location, str | torch.device) else 'cpu'


def _read_safetensors(path: Path, map_location: Any) -> dict:
    device = _device(map_location)
    try:
        with safe_open(path, 'pt') as file:
            meta = json.loads((file.metadata() or {}).get(META_KEY, '{}'))
            names = file.keys()
            if str(device) == 'meta':
                shapes = {name: file.get_slice(name).get_shape() for name in names}
                weights = {name: torch.empty(s, device='meta') for name, s in shapes.items()}
            else:
                weights = {name: file.get_tensor(name).to(device) for name in names}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = str(error).split('\n')[0]
        raise InputError(
            f'{path} cannot be read: it is cut short or no safetensors file ({reason}).'
        ) from error
    return dict(state_dict=OrderedDict(weights), meta=meta if isinstance(meta, dict) else {})


def _read_shards(index: Path, map_location: Any) -> dict:
    """The weights of the files that an index of diffusers names, which lie beside it."""
    try:
        files = sorted(set(_read_json(index)['weight_map'].values()))
        shards = [index.with_name(name) for name in files]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f'{index} is no index of files of weights.') from error
    weights = OrderedDict()
    for shard in shards:
        weights |= _read_safetensors(shard, map_location)['state_dict']
    return dict(state_dict=weights)


def _read_other(path: Path, map_location: Any, mmap: bool) -> dict:
    beginning = _beginning(path)
    try:
        if is_flax(beginning):
            checkpoint = _placed(read_jax(path), map_location)
        elif is_nvlabs(beginning):
            checkpoint = _placed(read_nvlabs(path), map_location)
        else:
            checkpoint = load_pickled(path, map_location, mmap)
    except InputError as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    except pickle.UnpicklingError as error:
        reason = str(error).split('WeightsUnpickler error: ')[-1].strip().split('\n')[0]
        raise InputError(
            f'{path} is refused: it is no checkpoint, or holds more than tensors, and loading it '
            f'could run code or fill the memory ({reason}).'
        ) from error
    except Exception as error:  # a damaged file can break the reader anywhere
        reason = f'{type(error).__name__}: {error}'.split('\n')[0]
        raise InputError(
            f'{path} cannot be read: it is cut short or no checkpoint ({reason}).'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'{path} holds a {type(checkpoint).__name__}, no dictionary of weights.')
    return checkpoint


def _placed(checkpoint: dict, map_location: Any) -> dict:
    for weights in (checkpoint['state_dict'], *checkpoint.get('emas', {}).values()):
        for name in weights:
            weights[name] = weights[name].to(_device(map_location))
    return checkpoint


def _check_entries(path: Path, checkpoint: dict) -> None:
    """Refuse what those who load could only stumble over."""
    sets = [checkpoint.get('state_dict', checkpoint)]
    emas = checkpoint.get('emas', {})
    sets += emas.values() if isinstance(emas, Mapping) else [emas]
    for rate in emas if isinstance(emas, Mapping) else ():
        if not re.fullmatch(r'(sigma_rel=0|[01])(\.\d+)?(e-\d+)?', str(rate)):
            raise InputError(f'{path} has weights averaged at the rate {rate!r}, which is none.')
    for weights in sets:
        if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
            raise InputError(f'{path} holds no weights by name where a checkpoint has them.')
        if isinstance(weights, OrderedDict):
            # torch hands it on to the modules; ours need none, and it could be anything.
            vars(weights).pop('_metadata', None)


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise InputError(f'{path} cannot be read: it holds a {type(content).__name__}.')
    return content


def _read_unet_config(path: Path) -> dict:
    config = _read_json(path)
    name = config.get('_class_name', 'UNet2DModel')
    if name != 'UNet2DModel':
        raise InputError(f'{path} describes a {name}; only a UNet2DModel can be read.')
    return config


def _read_model_config(unet: dict, scheduler: Path) -> dict:
    """The meta of a checkpoint, with the config that a pipeline's folder amounts to, if any."""
    try:
        model = model_config(unet, _read_json(scheduler))
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f'{scheduler} and the config of its UNet2DModel do not describe a model: {error!r}'
        ) from error
    return {} if model is None else dict(cfg=f'model = {model}')


# MMEngine's log names a loader by what follows 'load_from_' in its name.
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """A loader of MMEngine's, for local files."""
    return read_checkpoint(filename, map_location)


def load_from_http(
    filename: str, map_location: Any = None, model_dir: str | None = None, progress: bool = True
) -> dict:
    """A loader of MMEngine's, for http and https: downloads once, into the cache."""
    released = find_released(filename)
    if released is None:
        name = filename.split('?')[0].rsplit('/', 1)[-1]
        file = CachedFile(name, filename, Path(model_dir or cache_folder()) / name)
    else:  # whose address may not tell it from others
        file = released.file
    return read_checkpoint(file.fetch(progress=progress), map_location)


def register_safe_loaders() -> None:
    """Make MMEngine read local and http checkpoints through :func:`read_checkpoint`.

    mmengine 0.10.7 cannot read its own checkpoints on torch >= 2.6, and unpickles what it
    downloads. Idempotent; ``tools/train.py``, ``TrainingInfoHook`` and ``register_all_modules``
    call it.
    """
    from mmengine.runner import checkpoint as mmengine_checkpoint  # a second, for FSDP and others

    register_scheme = mmengine_checkpoint.CheckpointLoader.register_scheme
    register_scheme('', load_from_local, force=True)
    register_scheme(('http://', 'https://'), load_from_http, force=True)
    # What torchvision://, open-mmlab:// and mmcls:// call with the address of their file.
    mmengine_checkpoint.load_from_http = load_from_http
