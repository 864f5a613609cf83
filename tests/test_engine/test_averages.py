"""The averages against a loop of three lines."""

import io
import re

import pytest
import torch
from torch import nn

from mmagic_cm.engine.averages import EMATracker, update_ema
from mmagic_cm.errors import InputError

RATES = (0.5, 0.99)


@pytest.fixture
def module() -> nn.Module:
    """Parameters of two shapes, and buffers of two dtypes."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def change(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(torch.randint(1, 9, tensor.shape).to(tensor.dtype))


def state_of(module: nn.Module) -> dict:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_same(a: dict, b: dict, **tolerance) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **tolerance or dict(rtol=0, atol=0))


def test_averages_equal_a_reference_loop(module):
    tracker = EMATracker(module, RATES)
    expected = {rate: state_of(module) for rate in RATES}
    for rate in RATES:
        assert_same(tracker.averages[rate], expected[rate])
    parameters = dict(module.named_parameters())
    for _ in range(10):
        change(module)
        before = state_of(module)
        tracker.update()
        assert_same(state_of(module), before)
        for rate, average in expected.items():
            for name, value in module.state_dict().items():
                share = 1 - rate if name in parameters else 1  # buffers are copied
                average[name] = ((1 - share) * average[name] + share * value).to(value.dtype)
    for rate in RATES:
        assert_same(tracker.averages[rate], expected[rate], rtol=1e-6, atol=1e-6)
        assert not any(tensor.requires_grad for tensor in tracker.averages[rate].values())


def test_rate_zero_copies_exactly():
    average, value = torch.tensor([1e8, 3.0]), torch.tensor([1 / 3, -7.0])
    update_ema([average], [value], 0.0)
    assert torch.equal(average, value)


def test_state_goes_through_a_file(module):
    tracker = EMATracker(module, RATES)
    change(module)
    tracker.update()
    file = io.BytesIO()
    torch.save(tracker.state_dict(), file)
    file.seek(0)
    fresh = EMATracker(module, RATES)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for rate in RATES:
        assert_same(fresh.averages[rate], tracker.averages[rate])


@pytest.mark.parametrize('rates', [(), (1.0,), (0.9, -0.1)])
def test_rates_out_of_range_are_refused(module, rates):
    with pytest.raises(InputError, match=re.escape(str(rates))):
        EMATracker(module, rates)


@pytest.mark.parametrize(('rate', 'used'), [(None, 0.99), (0.5, 0.5), (0.99, 0.99)])
def test_applied_swaps_an_average_in_and_out(module, rate, used):
    tracker = EMATracker(module, RATES)
    change(module)
    tracker.update()
    own = state_of(module)
    average = {name: tensor.clone() for name, tensor in tracker.averages[used].items()}
    with tracker.applied(rate):
        assert_same(state_of(module), average)
        change(module)
    assert_same(state_of(module), own)
    assert_same(tracker.averages[used], average)
    with pytest.raises(ZeroDivisionError), tracker.applied(rate):
        raise ZeroDivisionError
    assert_same(state_of(module), own)
