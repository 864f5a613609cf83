"""The text that goes with published weights: ``model_card.md``, filled in."""

import json
from collections.abc import Mapping
from pathlib import Path

from .conversion import Source
from .diffusers_pipeline import PipelineSettings
from .released import find_released

_TEMPLATE = Path(__file__).with_suffix('.md')
_UNKNOWN = 'The checkpoint does not say.'
_OURS = """\
    from mmagic_cm.apis import generate, init_model
    model = init_model('{name}')
    images, labels = generate(model, 4)"""
_DIFFUSERS = """\
    from diffusers import ConsistencyModelPipeline
    pipeline = ConsistencyModelPipeline.from_pretrained('{name}')
    images = pipeline(batch_size=4, {arguments}).images"""


def model_card(
    source: Source,
    path: str | Path,
    metrics: Mapping[str, str],
    data: str | None = None,
    license: str | None = None,
    pipeline: PipelineSettings | None = None,
) -> str:
    """The card of a published file or folder, in Markdown, with the block that the Hub reads.

    Args:
        source: What was published.
        path: The published file or folder.
        metrics: Names and values.
        data: What it was trained on; default: what the config says.
        license: Of the weights, by the Hub's name of it, such as 'mit'; default: that of the
            released model that was published, if one is stated.
        pipeline: Of a folder for diffusers.
    """
    path, network, model = Path(path), source.denoiser.network, source.config.model
    classes = network.num_classes
    sampler = _settings(model.get('sampler') or dict(type='OnestepSampler'))
    library, use = 'mmagic-cm', _OURS.format(name=path.name)
    if pipeline is not None:
        library, use = 'diffusers', _DIFFUSERS.format(name=path.name, arguments=pipeline.arguments)
        sampler += f'\n\nIn diffusers, {pipeline.said}.'
    dataset = (source.config.get('train_dataloader') or {}).get('dataset')
    rows = ['| metric | value |', '|---|---|', *(f'| {k} | {v} |' for k, v in metrics.items())]
    return _TEMPLATE.read_text(encoding='utf-8').format(
        license=json.dumps(license or _license(source)),  # a text of YAML, whatever is in it
        library=library,
        name=path.stem,
        size=network.image_size,
        kind='unconditional' if classes is None else f'conditional on {classes} classes',
        parameters=sum(tensor.numel() for tensor in source.weights.values()),
        parameterization=model.denoiser.get('parameterization', 'consistency'),
        use=use,
        data=data or (f'`{dataset["type"]}` of mmagic-cm.' if dataset else _UNKNOWN),
        training=_training(source),
        sampler=sampler,
        metrics='\n'.join(rows) if metrics else 'None were given.',
    )


def _license(source: Source) -> str:
    released = find_released(source.path)
    stated = released and released.family.licence
    return stated.lower().replace(' ', '-') if stated else 'unknown'


def _settings(value: Mapping | None) -> str:
    """``Name(setting=value, ...)``, or nothing."""
    if not value:
        return ''
    settings = ', '.join(
        f'{key}={dict(item) if isinstance(item, Mapping) else item!r}'
        for key, item in value.items()
        if key not in ('type', '_scope_')
    )
    return f'`{value["type"]}({settings})`'


def _training(source: Source) -> str:
    config, model = source.config, source.config.model
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    size = f' of {batch} pictures a process' if batch else ''
    facts = {  # no folders of the machine
        'Objective': _settings(model.get('objective')),
        'Distilled from': Path((model.get('teacher') or {}).get('checkpoint') or '').name,
        'Started from': Path(model.get('init_from') or '').name,
        'Length': f'{source.iteration:,} batches{size}' if source.iteration else '',
        'Optimizer': _settings((config.get('optim_wrapper') or {}).get('optimizer')),
        'Weights': _which(source.ema),
    }
    return '\n'.join(f'- {key}: {fact}.' for key, fact in facts.items() if fact) or _UNKNOWN


def _which(ema: str | float | None) -> str:
    if ema == 'target':
        return 'the target network'
    by_rate = not isinstance(ema, str)
    kind = 'exponential moving average of rate' if by_rate else 'power-function average of'
    return f'the {kind} {ema}' if ema else ''
