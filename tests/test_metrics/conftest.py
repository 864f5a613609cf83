"""What the tests of the metrics share."""

from unittest import mock

import pytest
import torch
from torch import nn


@pytest.fixture
def logged(monkeypatch):
    """The texts that the metrics have logged so far."""
    messages = []

    def keep(message, logger=None, level=None):
        messages.append(message)

    for name in ('kid', 'scores'):
        monkeypatch.setattr(f'mmagic_cm.metrics.{name}.print_log', keep)
    return lambda: list(messages)


@pytest.fixture(scope='session')
def inception_file(tmp_path_factory):
    """A file of weights as torch-fidelity has them, but random ones."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    kind = fidelity.FeatureExtractorInceptionV3
    with (
        torch.random.fork_rng(),
        mock.patch.object(kind, 'load_state_dict'),
        mock.patch.object(fidelity, 'load_state_dict_from_url'),
    ):
        torch.manual_seed(0)
        network = kind('inception-v3-compat', ['2048'])
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                # Pictures stay different to the last layer.
                nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.bias, std=0.1)
        nn.init.normal_(network.fc.weight, std=0.5)
        nn.init.normal_(network.fc.bias)
    path = tmp_path_factory.mktemp('inception') / 'weights.pth'
    torch.save(network.state_dict(), path)
    return path
