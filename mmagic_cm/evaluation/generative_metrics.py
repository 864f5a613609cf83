"""FID and the others as a metric of MMEngine's, for validation, ``tools/test.py`` and configs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import (
    all_gather,
    broadcast_object_list,
    gather,
    get_comm_device,
    get_world_size,
    is_main_process,
)
from mmengine.evaluator import BaseMetric

from ..errors import InputError
from ..metrics.features import FeatureExtractor, Features
from ..metrics.scores import (
    KNOWN_METRICS,
    Reference,
    check_available,
    check_features,
    check_metrics,
    compute_scores,
)
from ..registry import FEATURE_EXTRACTORS, METRICS, resolve
from .reference import read_reference
from .sources import check_source


@METRICS.register_module()
class GenerativeMetrics(BaseMetric):
    """FID, sFID, KID, Inception Score, precision and recall of what the model draws.

    Its data loader says what to draw: :class:`~mmagic_cm.datasets.SampleNumbers`, or any data set
    that gives ``indices``. Each image counts once, by its number, however many processes draw and
    however their shares are padded. Only features are kept.

    Args:
        names: Metrics, of :data:`~mmagic_cm.metrics.KNOWN_METRICS`. (MMEngine takes a dict with
            the key ``metrics`` for an evaluator of its own.)
        reference: The real images, as :func:`~mmagic_cm.evaluation.reference.read_reference` takes
            them; folders and LMDBs are cropped to the size of the drawn images. It is read by the
            main process, when the first batch is drawn. None: for 'is' alone.
        extractor: A registered :class:`~mmagic_cm.evaluation.FeatureExtractor`, its config, or the
            object.
        paper: What is published: a dict of figures for each ``num_evaluations``, such as
            ``[dict(num_evaluations=1, fid=6.20, precision=0.68)]``; 'is' is ``inception_score``.
        prefix: Of the names of the figures; default: none.

    Attributes:
        about: After an evaluation, in the main process: what the figures depend on.
    """

    default_prefix = ''

    def __init__(
        self,
        names: Sequence[str] = ('fid',),
        reference: str | Path | Mapping[str, Any] | None = None,
        extractor: str | dict | FeatureExtractor = 'InceptionFeatures',
        paper: Sequence[Mapping[str, float]] = (),
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.names = check_metrics(names)
        self.source = reference
        self.extractor: FeatureExtractor = resolve(FEATURE_EXTRACTORS, extractor)
        self.paper = [dict(figures) for figures in paper]
        self.about: dict[str, Any] = {}
        self._reference: Reference | None = None
        self._inputs = sorted({KNOWN_METRICS[name].feature for name in self.names})

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        """MMEngine sets it when it builds a loop: before it trains, and before it draws."""
        self._dataset_meta = dataset_meta
        self.check()

    def check(self) -> None:
        """Look whether all is there that judging takes, before anything is drawn.

        Raises:
            InputError: Says what is missing.
        """
        check_features(self.names, self.extractor.names)
        check_source(self.source)
        if self.source is None:
            check_available(self.names, self.extractor.names, None)
        self.extractor.identity  # noqa: B018  reads the weights

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[dict]) -> None:
        """Keep the features of a batch, as ``ConsistencyModel.predict`` gives it."""
        if 'indices' not in data_batch:
            raise InputError(
                "GenerativeMetrics: the data loader gives no indices, the images' numbers: its "
                'dataset must be SampleNumbers, or end its pipeline with PackImage.'
            )
        images = torch.stack([sample['image'] for sample in data_samples])
        self.extractor.to(images.device)
        if is_main_process():
            self._read_reference(tuple(images.shape[2:]))
        found = self.extractor(images)
        arrays = {name: found[name].cpu().numpy() for name in self._inputs}
        numbers = torch.as_tensor(data_batch['indices'], dtype=torch.int64).cpu().numpy()
        self.results.append(dict(arrays, indices=numbers))

    def _read_reference(self, size: tuple[int, int]) -> None:
        if self.source is None or self._reference is not None:
            return
        crop = size[0] if size[0] == size[1] else None
        self._reference = read_reference(
            self.source, self.extractor, self.names, crop, progress=True
        )
        self._reference.check_size(size)

    def evaluate(self, size: int) -> dict[str, float]:
        """The figures of ``size`` images, the same in all processes.

        Raises:
            InputError: Not so many different ones were drawn, or they cannot be judged.
        """
        parts = {
            name: gather_rows(np.concatenate([part[name] for part in self.results]))
            for name in self.results[0]
        }
        self.results.clear()
        shared = [None]
        if is_main_process():
            numbers, first = np.unique(parts.pop('indices'), return_index=True)
            if len(numbers) != size:
                raise InputError(
                    f'GenerativeMetrics: {len(numbers):,} different images were drawn, and '
                    f'{size:,} were to be: do not drop the last batch.'
                )
            shared = [self.compute_metrics({name: rows[first] for name, rows in parts.items()})]
        broadcast_object_list(shared)
        prefix = f'{self.prefix}/' if self.prefix else ''
        return {f'{prefix}{name}': value for name, value in shared[0].items()}

    def compute_metrics(self, results: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The figures of features (N, D) by name."""
        samples = Features(results, self.extractor.identity)
        self.about = {
            'images': len(samples),
            'extractor': samples.identity,
            **(self._reference.describe() if self._reference else {}),
        }
        return compute_scores(samples, self._reference, self.names, self.extractor.device)


def gather_rows(rows: np.ndarray) -> np.ndarray | None:
    """The rows of all processes one after another in the main one, None in the others.

    Args:
        rows: (N, ...), N of its own in each process.
    """
    if get_world_size() == 1:
        return rows
    counts = [int(count) for count in all_gather(torch.tensor(len(rows)))]
    padded = torch.zeros(max(counts), *rows.shape[1:], dtype=torch.from_numpy(rows).dtype)
    padded[: len(rows)] = torch.from_numpy(rows)
    parts = gather(padded.to(get_comm_device()))
    if not is_main_process():
        return None
    return np.concatenate(
        [part[:count].cpu().numpy() for part, count in zip(parts, counts, strict=True)]
    )
