"""Half precision: the same steps to rounding, none at an overflow, and nothing that waits."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

from mmagic_cm.engine import MixedPrecisionOptimWrapper
from mmagic_cm.engine.averages import took_step
from mmagic_cm.errors import InputError

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


def mixed(**settings) -> dict:
    """Options of a run in mixed precision."""
    settings = dict(type='MixedPrecisionOptimWrapper', **settings)
    return {f'optim_wrapper__{name}': value for name, value in settings.items()}


def wrap(module: nn.Module, kind=MixedPrecisionOptimWrapper, optimizer=torch.optim.SGD, **settings):
    return kind(optimizer=optimizer(module.parameters(), lr=0.1), **settings)


def step(wrapper: OptimWrapper, module: nn.Module, factor: float = 1.0) -> None:
    """One iteration whose gradient is ``factor`` everywhere."""
    wrapper.update_params(factor * sum(weight.sum() for weight in module.parameters()))


@pytest.fixture
def module() -> nn.Linear:
    return nn.Linear(3, 2)


class Overflow(Hook):
    """Multiply the loss of these iterations by infinity."""

    def __init__(self, *iterations: int) -> None:
        self.iterations = iterations

    def before_train(self, runner):
        wrapper = runner.optim_wrapper
        scale_loss = wrapper.scale_loss

        def spoil(loss):
            return scale_loss(loss) * (math.inf if runner.iter + 1 in self.iterations else 1)

        wrapper.scale_loss = spoil


@pytest.mark.parametrize('name', DTYPES)
def test_the_network_computes_in_half_precision_and_weights_do_not(module, name):
    wrapper = wrap(module, dtype=name)
    with wrapper.optim_context(module):
        output = module(torch.ones(1, 3))
    assert output.dtype == DTYPES[name]
    assert module(torch.ones(1, 3)).dtype == torch.float32
    wrapper.update_params(output.float().sum())
    assert module.weight.dtype == torch.float32


def test_a_pass_without_gradients_takes_none_from_the_next(module):
    x = torch.ones(1, 3)
    wrapper = wrap(module)
    with wrapper.optim_context(module):
        with torch.no_grad():
            module(x)
        module(x).sum().backward()
    assert module.weight.grad.abs().min() > 0


@pytest.mark.parametrize('loss_scale', ['dynamic', 1024.0])
@pytest.mark.parametrize('clip', [None, dict(max_norm=0.5), dict(type='value', clip_value=0.5)])
def test_the_scale_of_the_loss_cancels_before_clipping(module, loss_scale, clip):
    other = nn.Linear(3, 2)
    other.load_state_dict(module.state_dict())
    wrappers = (
        wrap(module, dtype='float16', loss_scale=loss_scale, clip_grad=clip and dict(clip)),
        wrap(other, OptimWrapper, clip_grad=clip and dict(clip)),
    )
    for factor in 1.0, 3.0:
        for wrapper, each in zip(wrappers, (module, other), strict=True):
            step(wrapper, each, factor)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
@pytest.mark.parametrize(('loss_scale', 'after'), [('dynamic', 2.0**15), (8.0, 8.0)])
def test_an_overflow_is_no_step(module, fused, clip, loss_scale, after):
    optimizer = partial(torch.optim.Adam, fused=True) if fused else torch.optim.SGD
    wrapper = wrap(
        module, optimizer=optimizer, dtype='float16', loss_scale=loss_scale, clip_grad=clip
    )
    before = module.weight.clone()
    step(wrapper, module, math.inf)
    assert not wrapper.took_step
    assert torch.equal(module.weight, before)
    assert wrapper.loss_scale == after
    step(wrapper, module)
    assert wrapper.took_step
    assert not torch.equal(module.weight, before)
    assert wrapper.loss_scale == after


@pytest.mark.parametrize('kind', [OptimWrapper, *DTYPES])
def test_accumulating_is_no_step(module, kind):
    settings = dict(kind=kind) if kind is OptimWrapper else dict(dtype=kind)
    wrapper = wrap(module, accumulative_counts=2, **settings)
    took = []
    for _ in range(4):
        step(wrapper, module)
        took.append(took_step(SimpleNamespace(optim_wrapper=wrapper)))
    assert took == [False, True, False, True]


@pytest.fixture
def without_tf32(monkeypatch):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    for flag in flags:
        monkeypatch.setattr(flag, 'allow_tf32', False)
    return flags


def test_float32_is_that_of_a_plain_wrapper_with_tf32_on_gpus(module, without_tf32):
    wrapper = wrap(module, dtype='float32')
    assert all(flag.allow_tf32 for flag in without_tf32)
    x = torch.randn(2, 3)
    with wrapper.optim_context(module):
        output = module(x)
    assert output.dtype is torch.float32
    assert torch.equal(output, module(x))
    step(wrapper, module)
    assert wrapper.took_step
    assert wrapper.loss_scale is None


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_bfloat16_never_waits_for_the_device(clip):
    # Nothing can be read from a meta tensor: an attempt raises.
    with torch.device('meta'):
        module = nn.Linear(3, 2)
    wrapper = wrap(module, clip_grad=clip)
    step(wrapper, module)
    assert wrapper.took_step
    assert (wrapper.grad_norm is None) == (clip is None)


@pytest.mark.parametrize('iterations', [(1, 2, 3), (2,)])
def test_averages_and_target_rest_while_the_optimizer_does(
    trainer, after_each, equal, snapshot, iterations
):
    def look(runner, *_):
        [ema] = [hook.tracker.averages for hook in runner.hooks if hasattr(hook, 'tracker')]
        averages = {rate: {k: v.clone() for k, v in ema[rate].items()} for rate in ema}
        model = runner.model
        return snapshot(model.denoiser), snapshot(model.target), averages

    watch = after_each(look)
    runner = trainer(
        'ct', Overflow(*iterations), watch, max_iters=5, **mixed(dtype='float16', loss_scale=256.0)
    )
    runner.train()
    for iteration in range(1, 5):
        still = iteration + 1 in iterations
        before, after = watch.seen[iteration - 1], watch.seen[iteration]
        assert [equal(*pair) for pair in zip(before, after, strict=True)] == [still] * 3
    assert runner.optim_wrapper.loss_scale == 256


@pytest.mark.parametrize('name', DTYPES)
def test_runs_in_half_precision_learn_and_resume_exactly(trainer, after_each, equal, name):
    options = mixed(dtype=name) | dict(default_hooks__checkpoint__interval=3, max_iters=6)
    # The loss scale is halved before the checkpoint and after it.
    iterations = (2, 5) if name == 'float16' else ()
    losses = after_each(lambda runner, batch, outputs: float(outputs['loss']))
    whole = trainer('ct', losses, Overflow(*iterations), work_dir='whole', **options)
    whole.train()
    assert all(map(math.isfinite, losses.seen))
    resumed = trainer(
        'ct',
        Overflow(*iterations),
        work_dir='resumed',
        resume=True,
        load_from=f'{whole.work_dir}/iter_3.pth',
        **options,
    )
    resumed.train()
    assert equal(whole.model.state_dict(), resumed.model.state_dict())
    assert equal(whole.optim_wrapper.state_dict(), resumed.optim_wrapper.state_dict())
    if name == 'float16':
        assert whole.optim_wrapper.loss_scale == 2.0**14
        assert resumed.optim_wrapper.state_dict()['loss_scaler']['_growth_tracker'] == 1


@pytest.mark.parametrize('name', DTYPES)
def test_the_loss_is_that_of_full_precision_to_rounding(trainer, after_each, name):
    seen = []
    for options in {}, mixed(dtype=name):
        watch = after_each(lambda runner, batch, outputs: float(outputs['loss']))
        trainer('edm', watch, work_dir=f'{len(seen)}', max_iters=4, **options).train()
        seen.append(watch.seen)
    assert seen[0] == pytest.approx(seen[1], rel=0.05)
    assert seen[0][1:] != seen[1][1:]


def test_a_state_of_another_precision_is_taken_over(module):
    wrappers = [
        wrap(module, dtype='float16'),
        wrap(module),
        wrap(module, OptimWrapper),
        wrap(module, dtype='float16', loss_scale=4.0),
    ]
    for source in wrappers:
        for into in wrappers:
            into.load_state_dict(source.state_dict())
    assert wrappers[0].loss_scale == 2.0**16
    assert wrappers[3].loss_scale == 4


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(dtype='float8'), "'float8'"),
        (dict(dtype='float16', loss_scale='static'), "'static'"),
        (dict(dtype='float16', loss_scale=0.0), 'loss_scale'),
        (dict(loss_scale=2.0), 'loss_scale'),
    ],
)
def test_wrong_settings_are_named(module, settings, name):
    with pytest.raises(InputError, match=name):
        wrap(module, **settings)
