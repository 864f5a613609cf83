"""Two calls for those who only want pictures: ``init_model`` and ``generate``."""

import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log

from .checkpoints import RELEASED, Checkpoint, is_checkpoint, sampling_part
from .checkpoints.configs import denoiser_settings
from .checkpoints.layouts import without_weights
from .checkpoints.released import configs_folder
from .diffusion.samplers import DiffusionSampler
from .errors import InputError, closest
from .io.devices import choose_device
from .models.consistency_model import PRECISIONS, ConsistencyModel
from .registry import DIFFUSION_SAMPLERS, MODELS, resolve
from .sampling.loop import Labels, choose_labels, sample_images


def load_config(path: str | Path) -> Config:
    """Read a config.

    Args:
        path: A config file; the name of one of the package's, as mim and MMEngine's hub call it
            ('ect_1xb96-digits-8x8.py', 'mmagic_cm::consistency_models/ect_1xb96-digits-8x8.py'); a
            released name such as 'cd_imagenet64_lpips', for sampling; or a checkpoint or a folder
            of diffusers that says what model it is of, for sampling from it.

    Raises:
        InputError: There is none, or it cannot be read. Names the closest one.
    """
    path = Path(str(path).removeprefix('mmagic_cm::'))
    if is_checkpoint(path):
        return Checkpoint(path, 'meta').sampling_config()
    if not path.is_file():
        name = str(path).removeprefix('consistency_models/').removesuffix('.py')
        installed = {found.stem: found for found in configs_folder().glob('[!_]*/*.py')}
        if name not in installed:
            folder = next((p for p in path.parents if p.is_dir()), Path())
            known = [str(p) for p in folder.glob('*.py')]
            if not known or path.parent == Path():
                known += [*RELEASED, *installed]
            raise InputError(f'There is no config file {path}.{closest(str(path), known)}')
        path = installed[name]
    if path.suffix != '.py':
        # MMEngine's readers of YAML and JSON run what these name.
        raise InputError(f'{path} is no config file: only Python files (.py) are read.')
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program, which can go wrong anyhow
        raise InputError(f'{path} is no config file that can be read: {error}') from error


def open_model(
    config: str | Path, checkpoint: str | Path | None = None
) -> tuple[Config, str | Path | Checkpoint | None]:
    """The config and the weights that a command names, for :func:`init_model`.

    Args:
        config: As of :func:`load_config`.
        checkpoint: As of :func:`init_model`.

    Returns:
        Of a ``config`` that is itself a checkpoint, that checkpoint as the weights, opened: its
        file is read once.

    Raises:
        InputError: As of :func:`load_config`.
    """
    if checkpoint in (None, 'auto') and is_checkpoint(config):
        opened = Checkpoint(config)
        return opened.sampling_config(), opened
    return load_config(config), checkpoint


def _check_parameterization(checkpoint: Checkpoint, model: dict) -> None:
    """Refuse weights under scalings that they were not trained with, where they say theirs."""
    said = checkpoint.settings().get('parameterization')
    given = denoiser_settings(dict(model=model)).get('parameterization')
    if said and given and given != said:
        right = f'the config {checkpoint.released.name!r}' if checkpoint.released else 'its own'
        raise InputError(
            f'{checkpoint} holds weights of the {said} parameterization, and the config says '
            f'{given}: take {right}.'
        )


def init_model(
    config: str | Path | Config | dict,
    checkpoint: str | Path | Checkpoint | None = None,
    device: str | torch.device | None = None,
    precision: str = 'fp32',
    ema: str | float | None = 'auto',
    compile: bool | str = False,
) -> ConsistencyModel:
    """Build a model for sampling.

    Args:
        config: As of :func:`load_config`, what :class:`mmengine.Config` read from a file, or a
            dict with the key ``model``.
        checkpoint: A file or folder of weights in any layout, see
            :func:`~mmagic_cm.checkpoints.read_checkpoint`, or an opened one; 'auto' for the
            config's own (``load_from``). None: the config itself, where it is a checkpoint, a
            folder or a released name; else fresh weights, which draw nothing but smooth noise.
        device: Default: a GPU where there is one, else the CPU.
        precision: 'fp32', 'bf16' or 'fp16' (GPU): what the network computes in, and keeps its
            weights in. Noise levels, scalings and embeddings stay in fp32.
        ema: Which weights of a training checkpoint: 'auto' (the longest EMA that there is), a rate
            such as 0.999, 'target' (the target network), or None (the online network).
        compile: Let torch.compile make one graph of the network, at the first image (a minute and
            more); or a mode of torch.compile: 'reduce-overhead' records CUDA graphs.

    Returns:
        The model, in eval mode on the device.

    Raises:
        InputError: An unknown name, a file that is missing or does not fit.

    Example:
        >>> model = init_model('cd_imagenet64_lpips')  # demo/download_checkpoints.py
        >>> model = init_model('work_dirs/demo/iter_600.pth')
    """
    device = choose_device(device)
    if isinstance(config, str | Path):
        config, checkpoint = open_model(config, checkpoint)
    if 'model' not in config:
        raise InputError("The config has no 'model'.")
    if precision not in PRECISIONS:
        raise InputError(f'Unknown precision {precision!r}.{closest(precision, PRECISIONS)}')
    if precision == 'fp16' and device.type == 'cpu':
        raise InputError("precision 'fp16' needs a GPU; on a CPU take 'bf16' or 'fp32'.")
    if precision == 'bf16':
        _warn_of_slow_bf16(device)
    if checkpoint == 'auto':
        checkpoint = config.get('load_from')
        if checkpoint is None:
            raise InputError('The config names no checkpoint of its own (load_from): give a file.')
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    if checkpoint is not None:
        _check_parameterization(checkpoint, config['model'])
        checkpoint.weights(ema)  # what cannot be read is said before anything slow is done
    model = sampling_part(config['model'])
    model = MODELS.build(model) if checkpoint is None else _build(model, checkpoint, ema)
    model.precision = precision
    network = model.denoiser.network
    if precision != 'fp32' and hasattr(network, 'cast'):
        network.cast(PRECISIONS[precision])
    for tensor in (*model.parameters(), *model.buffers()):
        # One after the other out of the file, which somebody may write anew.
        tensor.data = tensor.data.clone()
    model.to(device, memory_format=model.memory_format).eval()
    if compile:
        network.compile(fullgraph=True, mode=compile if isinstance(compile, str) else None)
    return model


def _build(model: dict, checkpoint: Checkpoint, ema: str | float | None) -> ConsistencyModel:
    """A model whose float32 parameters are those of a file, mapped into memory."""
    # Not drawing weights that are replaced at once: seconds, and gigabytes, of a large network.
    with without_weights():
        built = MODELS.build(model)
    built.load_weights(checkpoint, ema, assign=True)
    if any(tensor.is_meta for tensor in (*built.parameters(), *built.buffers())):
        # A network of the user's, with tensors of its own that no file holds.
        built = MODELS.build(model)
        built.load_weights(checkpoint, ema)
    return built.float()


def _warn_of_slow_bf16(device: torch.device) -> None:
    # torch < 2.10 does not tell.
    capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
    fast = [known for name, known in capabilities.items() if 'bf16' in name]
    if device.type == 'cpu' and fast and not any(fast):
        print_log(
            'This processor has no bfloat16 arithmetic: bf16 is emulated, and slower than fp32.',
            'current',
            logging.WARNING,
        )


def generate(
    model: ConsistencyModel,
    num_samples: int,
    labels: Labels = None,
    sampler: str | dict | DiffusionSampler | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw images.

    Args:
        model: From :func:`init_model`.
        num_samples: How many.
        labels: One label for all images, one for each, or None: drawn at random from the seed.
        sampler: A registered name, a config or an object; default: the model's own.
        seed: Image i depends on (seed, i, its label) alone.
        batch_size: Images at a time; changes nothing but speed and memory.
        progress: Show a bar.

    Returns:
        uint8 (N, H, W, C) images, and int64 (N,) labels or None for an unconditional model.

    Example:
        >>> model = init_model('configs/consistency_models/ect_1xb96-digits-8x8.py', 'iter_1.pth')
        >>> images, labels = generate(model, 4, labels=[3, 1, 4, 1])
    """
    if num_samples < 1:
        raise InputError(f'num_samples must be at least 1, not {num_samples}.')
    indices = range(num_samples)
    chosen = choose_labels(model, indices, labels, seed)
    sampler = resolve(DIFFUSION_SAMPLERS, sampler)
    images = sample_images(model, indices, chosen, sampler, seed, batch_size, progress)
    return images, None if chosen is None else chosen.numpy()
