"""The figures of a set of generated images, by name."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.logging import print_log

from ..errors import InputError, closest
from .features import Features
from .fid import Gaussian, frechet
from .inception_score import inception_score
from .kid import kernel_distance
from .precision_recall import precision_recall

if TYPE_CHECKING:
    from ..evaluation.reference import Reference

HIGHER_IS_BETTER = {
    'fid': False,
    'sfid': False,
    'kid': False,
    'is': True,
    'precision': True,
    'recall': True,
}
METRIC_NAMES = tuple(HIGHER_IS_BETTER)


def compute_scores(
    samples: Features,
    reference: 'Reference | Features | None' = None,
    metrics: Sequence[str] = ('fid',),
    device: str | torch.device | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Judge generated images by their features.

    Args:
        samples: Features of the generated images.
        reference: Of the real ones: their features, or statistics. 'is' needs none.
        metrics: Of :data:`METRIC_NAMES`: 'fid' and 'sfid' (Fréchet distance of 'features' and of
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
    judge = _Judge(samples, reference, device, seed)
    scores: dict[str, float] = {}
    for metric in metrics:
        if metric not in scores:  # recall comes with precision
            scores.update(getattr(judge, f'{metric}_')())
    wanted = [key for name in metrics for key in (name, f'{name}_std') if key in scores]
    return {key: scores[key] for key in wanted}


def check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        InputError: None are given, or one is unknown: names the closest.
    """
    metrics = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    for name in metrics:
        if name not in METRIC_NAMES:
            raise InputError(f'{name!r} is no metric.{closest(name, METRIC_NAMES)}')
    if not metrics:
        raise InputError(f'No metric is named: choose of {", ".join(METRIC_NAMES)}.')
    return metrics


class _Judge:
    """One method for each metric."""

    def __init__(
        self,
        samples: Features,
        reference: 'Reference | Features | None',
        device: str | torch.device | None,
        seed: int,
    ) -> None:
        self.samples = samples
        self.reference = reference
        self.device = device
        self.seed = seed
        self.warned = False

    def fid_(self) -> dict[str, float]:
        return {'fid': self._frechet('fid', 'features')}

    def sfid_(self) -> dict[str, float]:
        return {'sfid': self._frechet('sfid', 'spatial')}

    def kid_(self) -> dict[str, float]:
        real, generated = self._real_features('kid'), self._generated('kid', 'features')
        found = kernel_distance(real, generated, seed=self.seed, device=self.device)
        return {'kid': found.mean, 'kid_std': found.std}

    def is_(self) -> dict[str, float]:
        found = inception_score(self._generated('is', 'logits'), device=self.device)
        return {'is': found.mean, 'is_std': found.std}

    def precision_(self) -> dict[str, float]:
        real, generated = self._real_features('precision'), self._generated('precision', 'features')
        precision, recall = precision_recall(real, generated, device=self.device)
        return {'precision': precision, 'recall': recall}

    recall_ = precision_

    def _frechet(self, metric: str, name: str) -> float:
        generated = Gaussian.fit(self._generated(metric, name), self.device)
        reference = self._need_reference(metric)
        if isinstance(reference, Features):
            real = Gaussian.fit(self._real_features(metric, name), self.device)
        else:
            real = reference.gaussians.get(name)
        if real is None:
            raise InputError(
                f'{metric} needs statistics of {name!r}, which {reference.source} does not have: '
                f'leave {metric} out, or name the images themselves as the reference.'
            )
        self._warn_of_few(metric, generated, 'generated')
        self._warn_of_few(metric, real, 'real')
        return frechet(real, generated, self.device)

    def _need_reference(self, metric: str) -> 'Reference | Features':
        if self.reference is None:
            raise InputError(f'{metric} compares with real images: name a reference.')
        return self.reference

    def _real_features(self, metric: str, name: str = 'features') -> np.ndarray:
        reference = self._need_reference(metric)
        features = reference if isinstance(reference, Features) else reference.features
        if features is None:
            raise InputError(
                f'{metric} needs the features of single real images, and {reference.source} holds '
                f'only their mean and covariance: name the images themselves as the reference.'
            )
        return _pick(features, metric, name)

    def _generated(self, metric: str, name: str) -> np.ndarray:
        return _pick(self.samples, metric, name)

    def _warn_of_few(self, metric: str, gaussian: Gaussian, which: str) -> None:
        """Say once what a singular covariance does to the Fréchet distance."""
        if self.warned or gaussian.count is None or gaussian.count > gaussian.dimension:
            return
        self.warned = True
        print_log(
            f'{metric}: {gaussian.count:,} {which} images are too few for {gaussian.dimension:,} '
            f'dimensions: their covariance is singular, the distance comes out too large, and it '
            f'compares with no figure of another number of images (50,000 are usual).',
            'current',
            logging.WARNING,
        )


def _pick(features: Features, metric: str, name: str) -> np.ndarray:
    if name not in features:
        raise InputError(
            f'{metric} needs {name!r}, which this feature extractor does not give '
            f'({features.identity}): leave {metric} out, or use InceptionFeatures.'
        )
    return features[name]
