"""Which weights of a checkpoint, and whether they fit."""

import pytest
import torch

from mmagic_cm.checkpoints import fit_state_dict, select_weights
from mmagic_cm.errors import InputError

RATES = '0.99', '0.9999', '0.5'
FIRST = 'input_blocks.0.0.weight'  # of every network of the paper's files


def network(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {FIRST: torch.full((2, 3), value), 'out.2.bias': torch.full((4,), value)}


def with_prefix(prefix: str, weights: dict) -> dict:
    return {prefix + name: tensor for name, tensor in weights.items()}


def ours(value: float = 1.0) -> dict:
    return with_prefix('denoiser.network.', network(value))


def target(value: float = 1.0) -> dict:
    return with_prefix('target.network.', network(value))


def values(weights: dict) -> dict[str, float]:
    return {name: float(tensor.flatten()[0]) for name, tensor in weights.items()}


CHECKPOINT = dict(
    state_dict=ours(1) | target(2),
    emas={rate: with_prefix('network.', network(float(rate))) for rate in RATES},
)


@pytest.mark.parametrize(
    ('ema', 'value'), [('auto', 0.9999), (0.5, 0.5), (0.99, 0.99), (0.9999, 0.9999)]
)
def test_averages_by_rate(ema, value):
    weights = select_weights(CHECKPOINT, ema)
    assert values(weights) == pytest.approx(values(ours(value)))


def test_none_is_the_online_network():
    assert values(select_weights(CHECKPOINT, None)) == values(ours(1) | target(2))


def test_the_target_network_in_the_place_of_the_online_one():
    weights = select_weights(CHECKPOINT, 'target')
    assert values(weights) == values(ours(2))
    fit_state_dict(weights, ours() | target())
    assert values(weights) == values(ours(2) | target(2))
    for checkpoint in (network(), dict(CHECKPOINT, state_dict=ours(1))):
        with pytest.raises(InputError, match='no target network'):
            select_weights(checkpoint, 'target')


@pytest.mark.parametrize('ema', ['auto', None])
@pytest.mark.parametrize('checkpoint', [network(), dict(state_dict=network())])
def test_files_without_averages_have_one_set_of_weights(checkpoint, ema):
    assert values(select_weights(checkpoint, ema)) == values(network())


def test_selecting_leaves_the_checkpoint_alone():
    checkpoint = dict(state_dict=network())
    fit_state_dict(select_weights(checkpoint), ours())
    assert values(checkpoint['state_dict']) == values(network())


@pytest.mark.parametrize('checkpoint', [CHECKPOINT, network()])
def test_unknown_rates_are_answered_with_the_known_ones(checkpoint):
    with pytest.raises(InputError, match='.*'.join(checkpoint.get('emas', ['none']))):
        select_weights(checkpoint, 0.7)


@pytest.mark.parametrize(
    ('given', 'expected', 'result'),
    [
        pytest.param(ours(1), ours(), ours(1), id='ours'),
        pytest.param(network(1), ours(), ours(1), id='raw'),
        pytest.param(ours(1) | target(2), ours(), ours(1), id='ours, target dropped'),
        pytest.param(
            ours(1) | target(2), ours() | target(), ours(1) | target(2), id='ours, target kept'
        ),
        pytest.param(ours(1), ours() | target(), ours(1) | target(1), id='ours, target filled'),
        pytest.param(network(1), ours() | target(), ours(1) | target(1), id='raw, target filled'),
    ],
)
def test_layouts_that_fit(given, expected, result):
    weights = dict(given)
    assert fit_state_dict(weights, expected) is None
    assert values(weights) == values(result)


def without(weights: dict, name: str) -> dict:
    return {key: tensor for key, tensor in weights.items() if key != name}


OUT, TARGET = 'denoiser.network.out.2.bias', 'target.network.out.2.bias'


@pytest.mark.parametrize(
    ('given', 'expected', 'name'),
    [
        (without(ours(), OUT), ours(), OUT),
        (without(network(), 'out.2.bias'), ours(), OUT),
        (ours() | dict(extra=torch.ones(1)), ours(), 'extra'),
        (ours() | {OUT: torch.ones(5)}, ours(), rf'{OUT}.*\(5,\).*\(4,\)'),
        (ours() | {OUT: 7}, ours(), OUT),
        (ours() | without(target(), TARGET), ours() | target(), TARGET),
        ({}, ours(), OUT),
    ],
)
def test_what_does_not_fit_is_named(given, expected, name):
    with pytest.raises(InputError, match=name) as caught:
        fit_state_dict(dict(given), expected)
    assert '\n' not in str(caught.value)


def test_only_the_first_misfits_are_named():
    many = {f'block.{i}': torch.ones(1) for i in range(10)}
    with pytest.raises(InputError, match=r'block\.0 .*block\.2 .* 7 more') as caught:
        fit_state_dict(ours() | many, ours())
    assert 'block.3' not in str(caught.value)
