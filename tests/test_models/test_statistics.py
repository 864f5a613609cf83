"""The loss by noise level."""

import math
import re

import torch

from mmagic_cm.models.statistics import LossByNoiseLevel


def test_means_by_bin():
    statistics = LossByNoiseLevel()
    statistics.update(torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0.01, 0.05, 0.5]))
    statistics.update(torch.tensor([20.0, 7.0]), torch.tensor([0.9, 79.0]))
    # The bin from 1 to 10 saw nothing and is left out.
    expected = {'loss_sigma_0-0.1': 2.0, 'loss_sigma_0.1-1': 15.0, 'loss_sigma_10-inf': 7.0}
    assert statistics.take() == expected
    # MLflow takes these letters; plots sort the names.
    assert all(re.fullmatch(r'[\w./: -]+', name) for name in statistics.names)
    assert statistics.names == sorted(statistics.names)


def test_take_starts_anew():
    statistics = LossByNoiseLevel(edges=(1.0,))
    assert statistics.take() == {}
    statistics.update(torch.tensor([1.0]), torch.tensor([0.5]))
    assert statistics.take() == {'loss_sigma_0-1': 1.0}
    assert statistics.take() == {}
    statistics.update(torch.tensor([3.0]), torch.tensor([0.5]))
    assert statistics.take() == {'loss_sigma_0-1': 3.0}


def test_keeps_no_graph_and_takes_any_precision():
    statistics = LossByNoiseLevel(edges=(1.0,))
    losses = torch.tensor([1.0, 2.0], requires_grad=True)
    statistics.update(losses.bfloat16(), torch.tensor([0.5, 0.6]))
    assert not statistics._sums.requires_grad
    assert statistics.take() == {'loss_sigma_0-1': 1.5}


def test_a_loss_that_is_no_number_shows():
    statistics = LossByNoiseLevel(edges=(1.0,))
    statistics.update(torch.tensor([math.nan, 1.0]), torch.tensor([0.5, 2.0]))
    taken = statistics.take()
    assert math.isnan(taken['loss_sigma_0-1'])
    assert taken['loss_sigma_1-inf'] == 1.0
