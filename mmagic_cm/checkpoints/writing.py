"""Writing weights in each layout: a file is there as a whole, or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

from ..errors import InputError
from ..io.files import in_place_of
from .diffusers_layout import to_diffusers, unet_config
from .diffusers_pipeline import SCHEDULER
from .layouts import NETWORK
from .reading import DIFFUSERS_WEIGHTS, META_KEY

# The one whose files ours are compared with; later ones read them, too.
_DIFFUSERS_VERSION = '0.24.0'


def write_openai(weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write the paper's layout: the network's weights by name, and nothing else.

    Args:
        weights: By the network's names.
        path: A ``.pt``.
    """
    with in_place_of(path) as fresh:
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
    with in_place_of(path) as fresh:
        if Path(path).suffix == '.safetensors':
            _save_safetensors(state_dict, fresh, **{META_KEY: json.dumps(meta)})
        else:
            _save_pickle(dict(state_dict=state_dict, meta=meta), fresh)


def write_diffusers(
    weights: Mapping[str, torch.Tensor],
    network: nn.Module,
    scheduler: Mapping[str, Any],
    folder: str | Path,
    readme: str | None = None,
) -> None:
    """Write a folder that ``diffusers.ConsistencyModelPipeline.from_pretrained`` reads.

    Args:
        weights: By the network's names.
        network: What they belong to, on any device.
        scheduler: Of :class:`~mmagic_cm.checkpoints.diffusers_pipeline.PipelineSettings`.
        folder: New or empty.
        readme: The card to be put into it.

    Raises:
        InputError: UNet2DModel cannot compute this network, or the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f'{folder} is there already: name a new folder.')
    pipeline = dict(scheduler=['diffusers', SCHEDULER], unet=['diffusers', 'UNet2DModel'])
    configs = {
        'model_index.json': ('ConsistencyModelPipeline', pipeline),
        'scheduler/scheduler_config.json': (SCHEDULER, scheduler),
        'unet/config.json': ('UNet2DModel', unet_config(network)),
    }
    renamed = _plain(to_diffusers(weights))
    with in_place_of(folder) as fresh:
        for name, (kind, settings) in configs.items():
            content = dict(_class_name=kind, _diffusers_version=_DIFFUSERS_VERSION, **settings)
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(json.dumps(content, indent=2) + '\n')
        _save_safetensors(renamed, fresh / f'unet/{DIFFUSERS_WEIGHTS}.safetensors', format='pt')
        if readme is not None:
            (fresh / 'README.md').write_text(readme, encoding='utf-8')


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
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # That its archive is incomplete, after the system's own words about a full disk.
            raise error.__context__ or error from None


def _save_safetensors(weights: Mapping[str, torch.Tensor], path: Path, **metadata: str) -> None:
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(weights), path, metadata)
    # It comes out of a private file, for the owner alone.
    path.chmod(mode)
