"""MMagic's own ``MMagicInferencer`` builds and runs our models, without a fork of MMagic.

::

    from mmagic_cm.integrations.mmagic_inferencer import register_into_mmagic
    register_into_mmagic()
    from mmagic.apis import MMagicInferencer
    editor = MMagicInferencer(model_name='consistency_models', model_config=CONFIG, model_ckpt=CKPT)
    editor.infer(label=0, result_out_dir='zeros.png')

MMagic is imported on demand: it takes 10-16 s.
"""

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.fileio import load

from ..checkpoints.released import configs_folder
from ..errors import InputError
from .consistency_inferencer import MODEL_NAME, ConsistencyInferencer

TASK = 'Consistency Models'  # a task of our own: MMagic's tasks keep their inferencers
CONSTRAINTS = Path(__file__).parents[1] / '.mim' / 'requirements' / 'constraints.txt'


def register_into_mmagic() -> None:
    """Teach MMagic 1.2.0's ``MMagicInferencer`` the model name ``consistency_models``.

    Call it before the first ``from mmagic.apis import ...``: beside mmcv-lite, that import needs
    the answer for ``mmcv._ext`` that is given here. Calling it again changes nothing. MMagic's own
    models and inferencers stay as they are, but where a fork of it has this name already, it is
    ours in this process, and a warning says so.

    Raises:
        InputError: MMagic is missing or does not import.
    """
    try:
        if find_spec('mmcv._ext') is None:
            sys.modules['mmcv._ext'] = _MissingOps()
        with warnings.catch_warnings():
            # Deprecation notes of timm, diffusers and controlnet_aux; nothing a user could act on.
            warnings.simplefilter('ignore')
            apis = importlib.import_module('mmagic.apis')
            inferencers = importlib.import_module('mmagic.apis.inferencers')
    except Exception as error:  # not only ImportError: a wrong numpy ends in AttributeError
        reason = (str(error).strip().splitlines() or ['no reason given'])[0]
        raise InputError(
            f'MMagic does not import ({type(error).__name__}: {reason}). Install the versions that '
            f"work together: pip install 'mmagic-cm[mmagic]' -c {CONSTRAINTS}"
        ) from error
    _enter(apis.MMagicInferencer, inferencers.Inferencers)


@functools.cache
def _enter(mmagic: type, inferencers: type) -> None:
    """Let these two classes of MMagic's serve our name; once."""
    if MODEL_NAME in mmagic.inference_supported_models:
        warnings.warn(
            f'This MMagic has a model {MODEL_NAME!r} of its own: in this process it is mmagic-cm, '
            'which takes mmagic-cm configs.',
            stacklevel=3,
        )
    else:
        mmagic.inference_supported_models.append(MODEL_NAME)
    mmagic.init_inference_supported_models_cfg = staticmethod(_list_our_name(mmagic))
    mmagic._get_inferencer_kwargs = _serve_our_name(mmagic._get_inferencer_kwargs)
    inferencers.__init__ = _serve_our_task(inferencers.__init__)
    mmagic.init_inference_supported_models_cfg()


def settings() -> list[dict]:
    """The paper's models and their published samplers: entries of our metafile, by their number."""
    models = load(configs_folder() / 'consistency_models' / 'metafile.yml')['Models']
    # MMagic would take the weights of an entry even for another config: without them it cannot.
    return [dict(Name=m['Name'], Config=m['Config']) for m in models if 'Weights' in m]


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext``, which mmcv-lite leaves out and MMagic's imports look at."""

    def __init__(self) -> None:
        super().__init__('mmcv._ext')
        self.__spec__ = ModuleSpec('mmcv._ext', loader=None)  # find_spec asks for it

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError(
                f'The operation {name!r} needs the compiled mmcv==2.1.0; mmcv-lite is installed.'
            )

        return missing


def _list_our_name(mmagic: type) -> Callable:
    """Let ``init_inference_supported_models_cfg`` read MMagic's metafiles, and add ours."""
    upstream = mmagic.init_inference_supported_models_cfg

    @functools.wraps(upstream)
    def init_inference_supported_models_cfg() -> None:
        names = mmagic.inference_supported_models
        # It opens the metafile of every name in MMagic's tree.
        mmagic.inference_supported_models = [name for name in names if name != MODEL_NAME]
        try:
            upstream()
        finally:
            mmagic.inference_supported_models = names
        mmagic.inference_supported_models_cfg[MODEL_NAME] = dict(task=TASK, settings=settings())

    return init_inference_supported_models_cfg


def _serve_our_name(upstream: Callable) -> Callable:
    """Let ``MMagicInferencer._get_inferencer_kwargs`` know our name; pass on all others."""

    @functools.wraps(upstream)
    def _get_inferencer_kwargs(self, model_name, *given):
        if model_name != MODEL_NAME:
            return upstream(self, model_name, *given)
        model_setting, config_name, config, ckpt, extra_parameters = given
        asked = model_setting if config_name is None else config_name
        if config is None:
            # A released name, or a file that says what model it is of, is enough alone.
            config = ckpt if asked is None and ckpt is not None else _setting(asked)
        return dict(task=TASK, config=config, ckpt=ckpt, extra_parameters=extra_parameters)

    return _get_inferencer_kwargs


def _setting(asked: int | str | None) -> str:
    """The name of a config: as it is, or by its number among our settings."""
    if isinstance(asked, str):
        return asked
    names = [setting['Name'] for setting in settings()]
    if asked in range(len(names)):
        return names[asked]
    known = ', '.join(f'{number} ({name})' for number, name in enumerate(names))
    raise InputError(
        f'{MODEL_NAME} has no model_setting {asked!r}: give one of {known}; or a model_config '
        '(ect_1xb96-digits-8x8.py or its neighbours ict_, ct_, edm_) and its model_ckpt.'
    )


def _serve_our_task(upstream: Callable) -> Callable:
    """Let ``Inferencers.__init__`` know our task; pass on all others."""

    @functools.wraps(upstream)
    def init(
        self, task=None, config=None, ckpt=None, device=None, extra_parameters=None, seed=2022
    ):
        if task != TASK:
            upstream(self, task, config, ckpt, device, extra_parameters, seed)
            return
        self.task = task
        self.inferencer = ConsistencyInferencer(config, ckpt, device, extra_parameters, seed)

    return init
