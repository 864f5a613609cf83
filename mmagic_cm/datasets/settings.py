"""What a config takes from the command line and from the data, before anything is built."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import InputError, closest, doing
from ..registry import DATASETS, MODEL_WRAPPERS

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
# What a config may be told even where it does not say it: MMEngine's keys, and ours.
_OF_A_RUN = {
    *inspect.signature(Runner).parameters,
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'num_classes',
    'sync_bn',
} - {'cfg'}


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Override settings, and let ``data_root`` reach the data sets that had the config's.

    A config is read before it is overridden, so ``data_root=data_root`` in it has the old value.
    A data set with another ``data_root`` than the config's keeps it.

    Args:
        cfg: Changed in place.
        options: Of ``--cfg-options``: values by dotted path.

    Raises:
        InputError: The first key of an option is one of which nobody knows, or model_wrapper_cfg
            has a setting that its class does not take: it is not built by a single process.
    """
    known = {*cfg, *_OF_A_RUN}
    for option in options:
        key = option.split('.')[0]
        if key not in known:
            raise InputError(f'--cfg-options {option}: there is no {key!r}.{closest(key, known)}')
    before = cfg.get('data_root')
    with doing(f'merging --cfg-options {", ".join(options)}'):
        cfg.merge_from_dict(options)
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper:
        MODEL_WRAPPERS.check_names({'type': 'MMDistributedDataParallel', **wrapper})
    after = cfg.get('data_root')
    datasets = [(cfg.get(name) or {}).get('dataset') for name in LOADERS]
    datasets += [_of_reference(cfg.get(name)) for name in EVALUATORS]
    for dataset in datasets:
        if after != before and dataset is not None and dataset.get('data_root') == before:
            dataset.data_root = after


def _of_reference(evaluator: Any) -> dict | None:
    """The data set that an evaluator compares with, where its reference is one."""
    reference = evaluator.get('reference') if isinstance(evaluator, dict) else None
    return reference.get('dataset') if isinstance(reference, dict) else None


def fill_num_classes(cfg: Config) -> None:
    """Give the network the config's ``num_classes``, and that the data set's where it is 'auto'.

    The number of classes (None: there are none) replaces 'auto', so that the config which the
    Runner saves builds without the data. A config without ``num_classes`` stays as it is.

    Args:
        cfg: Changed in place.

    Raises:
        InputError: The data set cannot be built.
    """
    if 'num_classes' not in cfg:
        return
    if cfg.num_classes == 'auto':
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
        classes = dataset.metainfo.get('classes')
        cfg.num_classes = len(classes) if classes else None
    cfg.model.denoiser.network.num_classes = cfg.num_classes
