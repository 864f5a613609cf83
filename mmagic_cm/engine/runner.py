"""MMEngine's Runner, which says what of the config it was building when something went wrong."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.utils.manager import _release_lock

from ..errors import InputError, closest, doing

# What each of its methods does; of builders, the key of the config.
_DOES = {
    'setup_env': 'setting env_cfg',
    'set_randomness': 'setting randomness',
    'build_logger': 'building the logger (log_level)',
    'build_log_processor': 'building log_processor',
    'build_visualizer': 'building visualizer',
    'build_model': 'building model',
    'wrap_model': 'building model_wrapper_cfg',
    'build_param_scheduler': 'building param_scheduler',
    'build_train_loop': 'building train_cfg',
    'build_val_loop': 'building val_cfg',
    'build_test_loop': 'building test_cfg',
    'load_or_resume': 'loading the checkpoint',
    'train': 'training',
    'val': 'validating',
    'test': 'testing',
}


class Runner(MMEngineRunner):
    """MMEngine's; arguments and methods are the same."""

    def dump_config(self) -> None:
        """Write it once a training has begun: the folder may be another run's before."""
        if isinstance(self._train_loop, BaseLoop):
            super().dump_config()

    def build_dataloader(self, dataloader: Any, *args: Any, **settings: Any) -> Any:
        """Build one of the three."""
        with doing(f'building {self._key_of(dataloader, "dataloader")}'):
            return super().build_dataloader(dataloader, *args, **settings)

    def build_evaluator(self, evaluator: Any) -> Any:
        """Build one of the two."""
        with doing(f'building {self._key_of(evaluator, "evaluator")}'):
            return super().build_evaluator(evaluator)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build it; MMEngine would see a mistyped key of ``clip_grad`` at the first step."""
        with doing('building optim_wrapper'):
            built = super().build_optim_wrapper(optim_wrapper)
            for key in getattr(built, 'clip_grad_kwargs', None) or ():
                known = inspect.signature(built.clip_func).parameters
                if key not in known:
                    raise InputError(f'clip_grad takes no {key!r}.{closest(key, known)}')
            return built

    def register_hook(self, hook: Any, *args: Any) -> None:
        """Build a hook and put it in its place."""
        name = hook.get('type', hook) if isinstance(hook, dict) else type(hook).__name__
        with doing(f'building the hook {name}'):
            super().register_hook(hook, *args)

    def _key_of(self, part: Any, kind: str) -> str:
        """The key of the config that holds this part."""
        keys = [key for key in self.cfg if key.endswith(kind) and self.cfg[key] == part]
        return keys[0] if keys else kind


@contextmanager
def _unlocked() -> Iterator[None]:
    """Give MMEngine's lock of its global objects back where building one of them fails.

    MMEngine does not: every other thread, such as those of a web page, would wait for ever.
    """
    try:
        yield
    except Exception:
        with suppress(RuntimeError):  # once it is not ours
            while True:
                _release_lock()
        raise


def _named(method: Callable, what: str) -> Callable:
    @functools.wraps(method)
    def named(self: Runner, *args: Any, **settings: Any) -> Any:
        with doing(what), _unlocked():
            return method(self, *args, **settings)

    return named


for _name, _what in _DOES.items():
    setattr(Runner, _name, _named(getattr(MMEngineRunner, _name), _what))
