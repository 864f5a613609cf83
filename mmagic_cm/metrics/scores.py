"""The figures of a set of generated images: one table names them all."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from mmengine.logging import print_log

from ..errors import InputError, closest
from .features import Features
from .fid import Gaussian, frechet
from .inception_score import inception_score
from .kid import kernel_distance
from .precision_recall import precision_recall

ASSUMED = 'not recorded in the file: the Inception of 2015 is assumed'


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images.

    Attributes:
        gaussians: By name of the features: 'features', and 'spatial' for sFID.
        features: Of single images (up to 10,000 of them), for KID, precision and recall; or None.
        identity: Of the extractor; None: the file does not say.
        crop: How the images were cropped and resized, in words.
        source: Where they come from.
        count: Images that the Gaussians are of; None: the file does not say.
        size: (height, width) of the images; None: not known.
    """

    gaussians: dict[str, Gaussian]
    features: Features | None
    identity: str | None
    crop: str
    source: str
    count: int | None = None
    size: tuple[int, int] | None = None

    def describe(self) -> dict[str, str | int | None]:
        """For reports: source, number of images, crop and extractor."""
        kept = {} if self.features is None else {'images with own features': len(self.features)}
        return {
            'reference': self.source,
            'reference images': self.count,
            **kept,
            'crop of the reference': self.crop,
            'extractor of the reference': self.identity or ASSUMED,
        }

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse generated images (height, width) of another size than the real ones.

        Raises:
            InputError: Says both sizes.
        """
        if self.size is not None and tuple(size) != tuple(self.size):
            raise InputError(
                f'The generated images are {size[1]} x {size[0]} pixels, those of the reference '
                f'{self.source} {self.size[1]} x {self.size[0]}: take a reference of the same size.'
            )


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        feature: What it takes of the feature extractor.
        higher_is_better: Which way.
        compute: From the real images, the generated ones' features (N, D), a device and a seed:
            figures by name, its own and those that come along.
        real: What it takes of the real images: 'statistics' (their Gaussian), 'images' (features
            (N, D) of single ones), or None.
    """

    feature: str
    higher_is_better: bool
    compute: Callable[..., dict[str, float]]
    real: str | None = None


def _frechet(name: str, real: Gaussian, rows: np.ndarray, device, seed) -> dict[str, float]:
    generated = Gaussian.fit(rows, device)
    for which, gaussian in (('generated', generated), ('real', real)):
        if gaussian.count is not None and gaussian.count <= gaussian.dimension:
            print_log(
                f'{name}: {gaussian.count:,} {which} images are too few for '
                f'{gaussian.dimension:,} dimensions: their covariance is singular, the distance '
                f'comes out too large, and it compares with no figure of another number of images '
                f'(50,000 are usual).',
                'current',
                logging.WARNING,
            )
    return {name: frechet(real, generated, device)}


def _kid(real: np.ndarray, rows: np.ndarray, device, seed: int) -> dict[str, float]:
    found = kernel_distance(real, rows, seed=seed, device=device)
    return {'kid': found.mean, 'kid_std': found.std}


def _inception_score(real: None, rows: np.ndarray, device, seed) -> dict[str, float]:
    found = inception_score(rows, device=device)
    return {'is': found.mean, 'is_std': found.std}


def _precision_recall(real: np.ndarray, rows: np.ndarray, device, seed) -> dict[str, float]:
    precision, recall = precision_recall(real, rows, device=device)
    return {'precision': precision, 'recall': recall}


KNOWN_METRICS = {
    'fid': Metric('features', False, partial(_frechet, 'fid'), real='statistics'),
    'sfid': Metric('spatial', False, partial(_frechet, 'sfid'), real='statistics'),
    'kid': Metric('features', False, _kid, real='images'),
    'is': Metric('logits', True, _inception_score),
    'precision': Metric('features', True, _precision_recall, real='images'),
    'recall': Metric('features', True, _precision_recall, real='images'),
}


def compute_scores(
    samples: Features,
    reference: Reference | Features | None = None,
    metrics: Sequence[str] = ('fid',),
    device: str | torch.device | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Judge generated images by their features.

    Args:
        samples: Features of the generated images.
        reference: Of the real ones: their features, or statistics. 'is' needs none.
        metrics: Of :data:`KNOWN_METRICS`: 'fid' and 'sfid' (Fréchet distance of 'features' and of
            'spatial'), 'kid', 'is', 'precision' and 'recall' (k = 3).
        device: Where to compute. Defaults to a GPU where there is one.
        seed: Draws the subsets of 'kid'.

    Returns:
        Figures by name, in the order of ``metrics``; 'kid' and 'is' have a standard deviation
        over subsets and over splits beside them, 'kid_std' and 'is_std'.

    Raises:
        InputError: An unknown name; what a metric needs is not there; the reference's features
            come from another extractor; too few images.
    """
    metrics = check_metrics(metrics)
    if reference is not None and reference.identity not in (None, samples.identity):
        raise InputError(
            f'The reference was made with other features: {reference.identity}, not '
            f'{samples.identity}; make it anew with this extractor.'
        )
    if isinstance(reference, Features):
        reference = _statistics(reference, metrics, device)
    check_available(metrics, samples.arrays, reference)
    scores: dict[str, float] = {}
    for name in metrics:
        if name not in scores:  # recall comes with precision
            metric = KNOWN_METRICS[name]
            real = _real(metric, reference)
            scores |= metric.compute(real, samples[metric.feature], device, seed)
    wanted = [key for name in metrics for key in (name, f'{name}_std') if key in scores]
    return {key: scores[key] for key in wanted}


def check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        InputError: One is unknown: names the closest.
    """
    metrics = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    for name in metrics:
        if name not in KNOWN_METRICS:
            raise InputError(f'{name!r} is no metric.{closest(name, KNOWN_METRICS)}')
    return metrics


def check_features(metrics: Sequence[str], features: Collection[str]) -> None:
    """Refuse metrics of features that the extractor does not give.

    Raises:
        InputError: Names the first one.
    """
    for name in check_metrics(metrics):
        needed = KNOWN_METRICS[name].feature
        if needed not in features:
            raise InputError(
                f'{name} needs {needed!r}, which this feature extractor does not give: leave '
                f'{name} out, or use InceptionFeatures.'
            )


def available_metrics(features: Collection[str], reference: Reference | None) -> tuple[str, ...]:
    """Names of the metrics that an extractor's features and a reference allow."""
    return tuple(
        name
        for name, metric in KNOWN_METRICS.items()
        if metric.feature in features and (not metric.real or _real(metric, reference) is not None)
    )


def check_available(
    metrics: Sequence[str], features: Collection[str], reference: Reference | None
) -> None:
    """Refuse metrics for which the extractor or the reference has not what they take.

    Raises:
        InputError: Names the first one, and those that are possible.
    """
    check_features(metrics, features)
    possible = available_metrics(features, reference)
    for name in metrics:
        if name not in possible:
            metric = KNOWN_METRICS[name]
            which = 'single real images' if metric.real == 'images' else 'real images'
            source = 'there is no reference' if reference is None else f'not in {reference.source}'
            raise InputError(
                f'{name} needs {metric.feature!r} of {which}: {source}. Name the images themselves '
                f'as the reference, or choose of: {", ".join(possible) or "nothing"}.'
            )


def _real(metric: Metric, reference: Reference | None) -> Gaussian | np.ndarray | None:
    """What the metric takes of the real images; None: nothing, or it is not there."""
    if reference is None or metric.real is None:
        return None
    if metric.real == 'statistics':
        return reference.gaussians.get(metric.feature)
    return reference.features and reference.features.arrays.get(metric.feature)


def _statistics(features: Features, metrics: Sequence[str], device) -> Reference:
    """What the metrics take of single images that are there."""
    table = [KNOWN_METRICS[name] for name in metrics]
    wanted = {metric.feature for metric in table if metric.real == 'statistics'}
    wanted &= features.arrays.keys()
    gaussians = {name: Gaussian.fit(features[name], device) for name in wanted}
    return Reference(gaussians, features, features.identity, 'not known', 'the given features')
