"""The text that goes with published weights: what they are, and what they are not for."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from .conversion import Source
from .diffusers_pipeline import PipelineSettings

_USE = """\
Research and teaching on generative models: drawing pictures like those of the training data,
editing pictures without further training, and as a start for further training.

Not for deciding anything about people, for passing off drawn pictures as photographs, or for
data that must be kept private: a model can reproduce pictures that it was trained on."""

_LIMITS = """\
- It draws what its training data shows, with that data's biases, and nothing else.
- Faces, hands and text often come out wrong; fewer steps of sampling make pictures worse.
- Pictures have the size given above."""

_CAVEAT = """\
FID, precision and recall compare features of an Inception network that was trained on ImageNet,
and so was the VGG16 of LPIPS. A model trained with LPIPS therefore does better by these figures
than its pictures look, on ImageNet above all: compare it with care with models trained without."""


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
    license: str = 'unknown',
    pipeline: PipelineSettings | None = None,
) -> str:
    """The card of a published file or folder, in Markdown, with the block that the Hub reads.

    Args:
        source: What was published.
        path: The published file or folder.
        metrics: Names and values.
        data: What it was trained on; default: what the config says.
        license: Of the weights, by the Hub's name of it, such as 'mit'.
        pipeline: Of a folder for diffusers.
    """
    network, config = source.denoiser.network, source.config
    size = sum(tensor.numel() for tensor in source.weights.values())
    classes = network.num_classes
    kind = 'unconditional' if classes is None else f'conditional on {classes} classes'
    sampler = config.model.get('sampler') or dict(type='OnestepSampler')
    rows = ['| metric | value |', '|---|---|', *(f'| {k} | {v} |' for k, v in metrics.items())]
    figures = '\n'.join(rows) if metrics else 'None were given.'
    path, library, use, note = Path(path), 'mmagic-cm', _OURS, ''
    if pipeline is not None:
        library, use, note = 'diffusers', _DIFFUSERS, f'\n\nIn diffusers, {pipeline.said}.'
    # What is quoted as JSON is a text of YAML, whatever is in it.
    return f"""\
---
license: {json.dumps(license)}
library_name: {library}
pipeline_tag: unconditional-image-generation
tags:
- consistency-models
- image-generation
- mmagic-cm
---

# {path.stem}

A consistency or diffusion model of {network.image_size} x {network.image_size} pictures, {kind};
{size:,} parameters, in the {config.model.denoiser.get('parameterization', 'consistency')} \
parameterization.

{use.format(name=path.name, arguments=pipeline and pipeline.arguments)}

## Data

{data or _data(config)}

## Training

{_training(source)}

## Sampler

{_settings(sampler)}{note}

## Metrics

{figures}

{_CAVEAT}

## Intended use

{_USE}

## Limitations

{_LIMITS}
"""


def _settings(value: Mapping) -> str:
    """``Name(setting=value, ...)``, without paths."""
    settings = ', '.join(
        f'{key}={dict(item) if isinstance(item, Mapping) else item!r}'
        for key, item in value.items()
        if key not in ('type', '_scope_')
    )
    return f'`{value["type"]}({settings})`'


def _data(config: Config) -> str:
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    if dataset is None:
        return 'The checkpoint does not say.'
    return f'`{dataset["type"]}` of mmagic-cm.'


def _training(source: Source) -> str:
    model, facts = source.config.model, []
    if model.get('objective'):
        facts.append(f'Objective: {_settings(model.objective)}.')
    for key, text in (('teacher', 'Distilled from'), ('init_from', 'Started from')):
        start = model.get(key)
        start = start.get('checkpoint') if isinstance(start, Mapping) else start
        if start:
            facts.append(f'{text}: {Path(start).name}.')
    batch = (source.config.get('train_dataloader') or {}).get('batch_size')
    if source.iteration:
        size = f' of {batch} pictures a process' if batch else ''
        facts.append(f'Length: {source.iteration:,} batches{size}.')
    optimizer = (source.config.get('optim_wrapper') or {}).get('optimizer')
    if optimizer:
        facts.append(f'Optimizer: {_settings(optimizer)}.')
    if source.ema:
        facts.append(f'Weights: the exponential moving average of rate {source.ema}.')
    return '\n'.join(f'- {fact}' for fact in facts) or 'The checkpoint does not say.'
