"""The judge of the digits as a metric of MMEngine's, for validation and ``tools/test.py``."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from ..metrics.digits import DigitsJudge
from ..registry import METRICS


@METRICS.register_module()
class DigitsMetric(BaseMetric):
    """Accuracy, Fréchet distance and near copies of drawn digits, see :class:`DigitsJudge`.

    It looks at what the model draws, one image for each label of the data loader; the loader's
    own images are not used.
    """

    default_prefix = 'digits'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the images and labels of a batch, as ``ConsistencyModel.predict`` gives them."""
        for sample in data_samples:
            image = sample['image'].permute(1, 2, 0).cpu().numpy()
            self.results.append((image, sample['label']))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The verdict on all of them."""
        images, labels = zip(*results, strict=True)
        return DigitsJudge().judge(np.stack(images), np.array(labels)).as_dict()
