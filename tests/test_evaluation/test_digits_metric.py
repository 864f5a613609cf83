"""The judge of the digits inside of MMEngine."""

import pytest
import torch

from mmagic_cm.datasets.digits import load_split
from mmagic_cm.evaluation import DigitsMetric
from mmagic_cm.metrics import DigitsJudge
from mmagic_cm.registry import METRICS


def test_it_says_what_the_judge_says():
    images, labels = load_split('test')
    metric = METRICS.build(dict(type='DigitsMetric'))
    assert isinstance(metric, DigitsMetric)
    samples = [
        dict(image=torch.from_numpy(image).permute(2, 0, 1), label=int(label))
        for image, label in zip(images, labels, strict=True)
    ]
    for begin in range(0, len(samples), 100):
        metric.process({}, samples[begin : begin + 100])
    found = metric.evaluate(len(samples))
    expected = DigitsJudge().judge(images, labels).as_dict()
    assert found == {f'digits/{name}': pytest.approx(value) for name, value in expected.items()}
