"""The config inside of a checkpoint: read as values, never run."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import InputError
from ..registry import DIFFUSION_SAMPLERS, MODELS, PARAMETERIZATIONS

# What only training needs, or only makes sense on the machine where it ran.
_TRAINING_ONLY = ('objective', 'teacher', 'init_from', 'label_dropout')
# Above all numbers of classes, levels and channels; more take memory in a sampler or network.
MAX_NUMBER = 10**6
# Settings of networks and denoisers that are words, and name nothing.
_WORDS = {'positional', 'fourier', 'standard', 'residual', 'adm', 'edm', 'trigflow'}
_CONSTANTS = {'inf': float('inf'), 'nan': float('nan')}


def config_inside(checkpoint: Mapping, path: str | Path) -> Config | None:
    """The config that a checkpoint of MMEngine, of ours or of diffusers holds, if it does.

    To be looked at, not to be built: see :func:`sampling_config`.

    Args:
        checkpoint: As :func:`~mmagic_cm.checkpoints.read_checkpoint` returns it.
        path: Its file, for errors.

    Raises:
        InputError: It is not made of values alone, or of a network larger than the file.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        return None
    try:
        cfg = Config(_values(ast.parse(text)))
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        reason = str(error).split('\n')[0]
        raise InputError(f'The config inside {path} cannot be read: {reason}') from error
    if isinstance(cfg.get('model'), Mapping):
        _check_numbers(sampling_part(cfg['model']), checkpoint, path)
    return cfg


def sampling_part(model: Mapping) -> dict[str, Any]:
    """The config of a model without its training, which would cost time and memory."""
    return {key: value for key, value in model.items() if key not in _TRAINING_ONLY}


def sampling_config(cfg: Mapping) -> Config:
    """What sampling needs of a config."""
    if not isinstance(cfg.get('model'), Mapping):
        raise InputError("The config has no 'model'.")
    scope = dict(imports=['mmagic_cm'], allow_failed_imports=False)
    return Config(
        dict(default_scope='mmagic_cm', custom_imports=scope, model=sampling_part(cfg['model']))
    )


def denoiser_settings(cfg: Mapping) -> dict[str, str]:
    """``c_noise`` and ``parameterization`` of a config, where they are known by name."""
    denoiser = _part(_part(cfg, 'model'), 'denoiser')
    if not denoiser:
        return {}
    # Of a config that came in a file: nothing is imported by its names.
    network = MODELS.module_dict.get(str(_part(denoiser, 'network').get('type')))
    settings = dict(
        c_noise=denoiser.get('c_noise') or (network and getattr(network, 'c_noise', 'adm')),
        parameterization=denoiser.get('parameterization', 'consistency'),
    )
    return {name: value for name, value in settings.items() if isinstance(value, str)}


def _part(cfg: Mapping, name: str) -> Mapping:
    part = cfg.get(name)
    return part if isinstance(part, Mapping) else {}


def refuse_foreign_names(cfg: Mapping, path: str | Path) -> None:
    """Refuse the config for sampling that came in a file and names anything but our own parts.

    A ``type`` is looked up in all that Python can import, and called.

    Raises:
        InputError: Says which name it is.
    """
    known = {'mmagic_cm', *_WORDS}
    for registry in (MODELS, DIFFUSION_SAMPLERS, PARAMETERIZATIONS):
        registry.import_from_location()
        known |= set(registry.module_dict)
    for _, text in _leaves(cfg['model']):
        if isinstance(text, str) and text not in known:
            raise InputError(
                f'The config inside {path} is refused: it names {text!r}, which is nothing of '
                f'ours, and building it could run code; give a config file of your own.'
            )


def _check_numbers(model: Mapping, checkpoint: Mapping, path: str | Path) -> None:
    """Refuse what would take more time and memory to build than the file to read."""
    # Each block has several tensors; up to a hundred a level are quickly built.
    most_blocks = max(100, len(checkpoint.get('state_dict', checkpoint)))
    for name, value in _leaves(model):
        most = most_blocks if name == 'num_res_blocks' else MAX_NUMBER
        if isinstance(value, int) and value > most:
            raise InputError(f'The config inside {path} is refused: {name} is {value:,}.')


def _leaves(value: Any, name: Any = 'model') -> Iterator[tuple[Any, Any]]:
    """All single values of a config, with the last name on the way to them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, key)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value


def _values(tree: ast.Module) -> dict[str, Any]:
    """``name = value`` lines, as MMEngine writes configs."""
    values = {}
    for line in tree.body:
        if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
            raise ValueError(f'line {line.lineno} is more than a value with a name.')
        values[line.targets[0].id] = _value(line.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    named = isinstance(node, ast.Call) and not node.args and all(k.arg for k in node.keywords)
    if named and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    raise ValueError(f'line {node.lineno} is more than a value.')
