"""Where the run is, and the target network that follows."""

import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.diffusion.schedules import GrowingCurriculum
from mmagic_cm.errors import InputError


def parameters(module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def both(runner, *_) -> tuple[list, list]:
    return parameters(runner.model.denoiser), parameters(runner.model.target)


@pytest.mark.parametrize(('accumulate', 'max_iters'), [(1, 6), (2, 8), (2, 7)])
def test_model_is_told_where_the_run_is(trainer, after_each, accumulate, max_iters):
    watch = after_each(lambda runner, *_: runner.model.progress)
    runner = trainer(
        'ict',
        watch,
        max_iters=max_iters,
        randomness__seed=5,
        optim_wrapper__accumulative_counts=accumulate,
    )
    runner.train()
    told = [(now.seed, now.iteration, now.step, now.total_steps) for now in watch.seen]
    total = max_iters // accumulate
    assert told == [(5, i, i // accumulate, total) for i in range(max_iters)]


@pytest.mark.parametrize('accumulate', [1, 2])
def test_target_follows_with_the_rate_of_the_step_just_done(trainer, after_each, accumulate):
    # The adaptive rate differs from step to step, so that any other step's rate would show.
    settings = dict(start_scales=2, end_scales=40, start_ema=0.9)
    objective = dict(
        type='ConsistencyTraining', curriculum=dict(type='GrowingCurriculum', **settings)
    )
    total = 6
    rates = [GrowingCurriculum(**settings)(step, total)[0] for step in range(total)]
    assert len(set(rates)) == total

    watch = after_each(both)
    runner = trainer(
        objective,
        watch,
        max_iters=total * accumulate,
        optim_wrapper__accumulative_counts=accumulate,
    )
    expected = parameters(runner.model.denoiser)
    runner.train()
    for iteration, (online, target) in enumerate(watch.seen):
        if (iteration + 1) % accumulate == 0:
            rate = rates[iteration // accumulate]
            expected = [rate * e + (1 - rate) * o for e, o in zip(expected, online, strict=True)]
        torch.testing.assert_close(target, expected, rtol=1e-5, atol=1e-7)


def test_target_starts_as_a_copy_of_what_load_from_loaded(trainer, at_start, equal):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    trained = parameters(first.model.denoiser)

    # The target of the file is another one: a run that starts takes the online network.
    path = f'{first.work_dir}/iter_2.pth'
    checkpoint = read_checkpoint(path)
    for name, tensor in list(checkpoint['state_dict'].items()):
        checkpoint['state_dict'][name.replace('denoiser.', 'target.', 1)] = tensor + 1
    torch.save(checkpoint, path)

    watch = at_start(both)
    trainer('ct', watch, load_from=path, randomness__seed=1, max_iters=1).train()
    [(online, target)] = watch.seen
    assert equal(online, trained)
    assert equal(target, trained)


def test_stages_without_a_target_keep_it_equal_to_the_online_network(trainer, after_each, equal):
    curriculum = dict(type='FixedCurriculum', target_ema=0.9, num_scales=4)
    staged = dict(
        type='StagedObjective',
        stages=[
            (0.5, dict(type='DenoisingScoreMatching')),
            (1.0, dict(type='ConsistencyTraining', curriculum=curriculum)),
        ],
    )
    watch = after_each(both)
    trainer(staged, watch, max_iters=4).train()
    assert [equal(online, target) for online, target in watch.seen] == [True, True, False, False]


def test_target_takes_no_gradient(trainer):
    runner = trainer('ct', max_iters=1)
    runner.train()
    assert not any(parameter.requires_grad for parameter in runner.model.target.parameters())
    trained = {id(p) for group in runner.optim_wrapper.param_groups for p in group['params']}
    moved = [p for p in runner.model.denoiser.parameters() if id(p) in trained]
    assert len(moved) == len(list(runner.model.denoiser.parameters()))


def test_training_without_the_hook_says_so(trainer):
    with pytest.raises(InputError, match='CurriculumHook'):
        trainer('ict', custom_hooks__0__type='EMAHook', max_iters=1).train()
