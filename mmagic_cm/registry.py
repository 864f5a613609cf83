"""Registries of the scope ``mmagic_cm``, children of MMEngine's (which requires this file name).

A config's ``type`` is a registered name. Names are looked up here first, then in MMEngine's root.
An unknown name raises :class:`~mmagic_cm.errors.InputError` with the closest match.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry as MMEngineRegistry
from mmengine.registry import build_from_cfg

from .errors import InputError, closest, doing


class Registry(MMEngineRegistry):
    """MMEngine's registry, whose unknown names are answered with the closest known one."""

    def get(self, key: str) -> Any:
        """The object registered as ``key`` here or in the parents."""
        found = super().get(key)
        if found is None:
            names = set(self.module_dict)
            # MMEngine's roots hold hundreds of torch classes, no help when *our* name is mistyped.
            hint = closest(key, names) if names else ''
            raise InputError(f'{key!r} is not a registered {self.name}.{hint}')
        return found

    def build(self, cfg: dict, *args: Any, **kwargs: Any) -> Any:
        """Build ``cfg``, whose bare names are ours whatever MMEngine's default scope is.

        (MMagic's inferencer leaves the scope 'mmagic' behind in its process.)
        """
        cfg = {'_scope_': self.scope, **cfg}
        if isinstance(cfg.get('type'), str) and cfg['_scope_'] == self.scope and not kwargs:
            self._check_arguments(cfg)
        with doing(f'building {_call_of(cfg)}'):
            return super().build(cfg, *args, **kwargs)

    def check_names(self, cfg: dict) -> dict:
        """Refuse names of arguments that the named class or function does not take.

        Returns:
            The arguments.
        """
        arguments = {key: cfg[key] for key in cfg if key not in {'type', '_scope_'}}
        known = _parameter_names(self.get(cfg['type']))
        unknown = sorted(arguments.keys() - known)
        if known and unknown:
            raise InputError(f'{cfg["type"]} takes no {unknown[0]!r}.{closest(unknown[0], known)}')
        return arguments

    def _check_arguments(self, cfg: dict) -> None:
        """Refuse names as :meth:`check_names` does, and a call that lacks arguments."""
        arguments = self.check_names(cfg)
        try:
            inspect.signature(self.get(cfg['type'])).bind(**arguments)
        except TypeError as error:
            raise InputError(f'{cfg["type"]}: {error}.') from error


def _call_of(cfg: dict) -> str:
    """The call that a config stands for, without the parts inside it."""
    values = {key: cfg[key] for key in cfg if key not in {'type', '_scope_'}}
    plain = int | float | str | tuple | None
    settings = [f'{key}={value!r}' for key, value in values.items() if isinstance(value, plain)]
    return f'{cfg.get("type")}({", ".join(settings)})'


def _parameter_names(target: Callable) -> set[str]:
    """Names that a class takes, through the ``**settings`` that it hands to its parents, too.

    Empty where ``**settings`` go somewhere else.
    """
    names: set[str] = set()
    for owner in target.__mro__ if isinstance(target, type) else (target,):
        if isinstance(target, type) and '__init__' not in vars(owner):
            continue
        parameters = inspect.signature(owner).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):  # torch.nn.Module, which takes all
            break
    return set()


def _child(
    name: str, parent: MMEngineRegistry, *locations: str, build_func: Callable | None = None
) -> Registry:
    locations = [f'mmagic_cm.{location}' for location in locations]
    return Registry(name, build_func, parent, 'mmagic_cm', locations)


# MMEngine's own way of building models imports all that training needs: a second.
MODELS = _child('model', root.MODELS, 'networks', 'objectives', 'models', build_func=build_from_cfg)
DATASETS = _child('dataset', root.DATASETS, 'datasets')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets')
HOOKS = _child('hook', root.HOOKS, 'engine')
LOOPS = _child('loop', root.LOOPS, 'engine')
PARAM_SCHEDULERS = _child('parameter scheduler', root.PARAM_SCHEDULERS, 'engine')
METRICS = _child('metric', root.METRICS, 'evaluation')

# Nothing of ours in these yet; without a child MMEngine warns at every name it looks up.
RUNNERS = _child('runner', root.RUNNERS)
MODEL_WRAPPERS = _child('model wrapper', root.MODEL_WRAPPERS)
OPTIMIZERS = _child('optimizer', root.OPTIMIZERS)
OPTIM_WRAPPERS = _child('optimizer wrapper', root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS
)
VISUALIZERS = _child('visualizer', root.VISUALIZERS)
VISBACKENDS = _child('visualizer backend', root.VISBACKENDS)
LOG_PROCESSORS = _child('log processor', root.LOG_PROCESSORS)
EVALUATOR = _child('evaluator', root.EVALUATOR)
FUNCTIONS = _child('function', root.FUNCTIONS, 'datasets')


def _own(name: str, *locations: str) -> Registry:
    """A registry of parts that MMEngine has no room for."""
    locations = [f'mmagic_cm.{location}' for location in locations]
    return Registry(name, build_func=build_from_cfg, scope='mmagic_cm', locations=locations)


DIFFUSION_SAMPLERS = _own('diffusion sampler', 'diffusion.samplers')
CURRICULA = _own('curriculum', 'diffusion.schedules')
WEIGHTINGS = _own('weighting', 'diffusion.weightings')
DISTANCES = _own('distance', 'diffusion.distances', 'objectives.lpips')
PARAMETERIZATIONS = _own('parameterization', 'models.denoiser')
FEATURE_EXTRACTORS = _own('feature extractor', 'metrics')


def resolve(registry: Registry, spec: str | dict | Callable) -> Any:
    """Turn a config value into the object that it names.

    Args:
        registry: Where names are looked up.
        spec: A registered name, a config ``dict(type=..., ...)``, or the object itself.

    Returns:
        The registered function, an instance of the registered class, or ``spec`` itself.
    """
    if isinstance(spec, str):
        found = registry.get(spec)
        return found() if isinstance(found, type) else found
    if isinstance(spec, dict):
        return registry.build(spec)
    return spec
