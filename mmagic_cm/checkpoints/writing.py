"""Writing weights in each layout: a file is there as a whole, or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

from ..download import CHUNK
from ..errors import InputError
from ..images import writing
from .diffusers_layout import to_diffusers, unet_config
from .layouts import NETWORK
from .reading import DIFFUSERS_WEIGHTS, META_KEY

FORMATS = {'safetensors': '.safetensors', 'pth': '.pth'}
# The one whose files ours are compared with; later ones read them, too.
_DIFFUSERS_VERSION = '0.24.0'
# Levels over the whole range of noise, at which two parameterizations are compared.
_LEVELS = (0.002, 0.01, 0.3, 0.5, 2.0, 80.0)


def write_openai(weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write the paper's layout: the network's weights by name, and nothing else.

    Args:
        weights: By the network's names.
        path: A ``.pt``.
    """
    with _in_place_of(path) as fresh:
        _save_pickle(_plain(weights), fresh)


def write_ours(
    weights: Mapping[str, torch.Tensor], cfg: Config, path: str | Path, **meta: Any
) -> None:
    """Write a checkpoint of ours for sampling, with its config inside.

    Args:
        weights: By the network's names.
        cfg: As :func:`~mmagic_cm.checkpoints.configs.sampling_config` gives it.
        path: A ``.safetensors``, or anything else for MMEngine's layout.
        meta: Further facts to keep inside.
    """
    state_dict = {NETWORK + name: tensor for name, tensor in _plain(weights).items()}
    # Such lines MMEngine reads, too; its own `pretty_text` takes a second.
    lines = (f'{key} = {pformat(value, sort_dicts=False)}' for key, value in cfg.to_dict().items())
    meta = dict(cfg='\n'.join(lines), **meta)
    with _in_place_of(path) as fresh:
        if Path(path).suffix == FORMATS['safetensors']:
            save_file(state_dict, fresh, {META_KEY: json.dumps(meta)})
        else:
            _save_pickle(dict(state_dict=state_dict, meta=meta), fresh)


def write_diffusers(
    weights: Mapping[str, torch.Tensor],
    denoiser: nn.Module,
    folder: str | Path,
    num_scales: int = 40,
    clip_denoised: bool = True,
) -> None:
    """Write a folder that ``diffusers.ConsistencyModelPipeline.from_pretrained`` reads.

    Args:
        weights: By the network's names.
        denoiser: The ``KarrasDenoiser`` that they belong to, on any device.
        folder: New or empty.
        num_scales: Levels of the grid that the pipeline's ``timesteps`` count.
        clip_denoised: Clamp each denoised image to [-1, 1].

    Raises:
        InputError: The pipeline cannot express this model, or the folder is there.
    """
    scheduler = dict(
        _class_name='CMStochasticIterativeScheduler',
        _diffusers_version=_DIFFUSERS_VERSION,
        num_train_timesteps=num_scales,
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        sigma_data=denoiser.sigma_data,
        s_noise=1.0,
        rho=denoiser.rho,
        clip_denoised=clip_denoised,
    )
    _check_parameterization(denoiser)
    unet = dict(
        _class_name='UNet2DModel',
        _diffusers_version=_DIFFUSERS_VERSION,
        **unet_config(denoiser.network),
    )
    index = dict(
        _class_name='ConsistencyModelPipeline',
        _diffusers_version=_DIFFUSERS_VERSION,
        scheduler=['diffusers', 'CMStochasticIterativeScheduler'],
        unet=['diffusers', 'UNet2DModel'],
    )
    renamed = to_diffusers(_plain(weights))
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'{folder} is there already: name a new folder.')
    with _in_place_of(folder) as fresh:
        for name, content in {
            'model_index.json': index,
            'scheduler/scheduler_config.json': scheduler,
            'unet/config.json': unet,
        }.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(json.dumps(content, indent=2) + '\n')
        path = fresh / 'unet' / f'{DIFFUSERS_WEIGHTS}.safetensors'
        save_file(_plain(renamed), path, {'format': 'pt'})


def content_hash(path: str | Path) -> str:
    """The first 8 hexadecimal digits of the file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:8]


def _check_parameterization(denoiser: nn.Module) -> None:
    """Refuse scalings that are not those of the scheduler."""
    given, data, least = denoiser.parameterization, denoiser.sigma_data, denoiser.sigma_min
    sigma = torch.tensor(_LEVELS, dtype=torch.float64, device='cpu')
    norm = (sigma**2 + data**2).sqrt()
    expected = dict(
        c_skip=data**2 / ((sigma - least) ** 2 + data**2),
        c_out=(sigma - least) * data / norm,
        c_in=1 / norm,
        c_noise=250 * sigma.log(),
    )
    for name, values in expected.items():
        if not torch.allclose(getattr(given, name)(sigma), values, rtol=1e-5, atol=1e-8):
            kind = type(given).__name__.removesuffix('Parameterization')
            raise InputError(
                f'ConsistencyModelPipeline knows the consistency parameterization alone, with '
                f"D(x, sigma_min) = x; this model's is {kind}: it cannot be written for diffusers."
            )


def _plain(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, in the usual order of memory, none of them part of another."""
    plain = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        plain[name] = tensor if whole else tensor.clone()
    return plain


def _save_pickle(content: dict, path: Path) -> None:
    # By a file: torch writes a path's name into the file, and the hash would depend on it.
    with open(path, 'wb') as file:
        torch.save(content, file)


@contextmanager
def _in_place_of(path: str | Path) -> Iterator[Path]:
    """Write under another name; rename at the end, or remove."""
    path = Path(path)
    fresh = path.with_name(f'.{path.name}.unfinished')
    with writing(path):
        _remove(fresh)
        try:
            yield fresh
            if path.is_dir() and fresh.is_dir():
                path.rmdir()
            os.replace(fresh, path)
        finally:
            _remove(fresh)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
