"""Stopped and resumed equals never stopped, to the last bit, without reading a past batch again."""

import signal
from pathlib import Path

import pytest
import torch

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.datasets import DigitsDataset
from mmagic_cm.errors import InputError, Stopped

STEPS, STOP, BATCH = 8, 3, 8
FLIP = [dict(type='RandomFlip'), dict(type='PackImage')]
BEGINS_AT_THE_STOP = [
    (STOP / STEPS, dict(type='DenoisingScoreMatching')),
    (1.0, dict(type='ConsistencyMidTraining', distance='l2', num_steps=4)),
]
SONG = dict(
    _delete_=True,
    type='SongUNet',
    image_size=8,
    in_channels=1,
    out_channels=1,
    model_channels=8,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(4,),
    num_classes=10,
)
# Checkpoints at 3, 6 and 8; the second stage of `ect` begins at 4, after the stop.
CASES = dict(
    edm=('edm', {}),
    ct=('ct', {}),
    ict=('ict', {}),
    learned=(dict(type='LearnsWithTheModel'), {}),
    ect=('ect', {}),
    cd=('cd', {}),
    # Stopped within the second of four stages, whose teacher is the first one, and with dropout,
    # which the last one's teacher has, too.
    stages_accumulating=(
        'stages',
        dict(model__denoiser__network__dropout=0.3, optim_wrapper__accumulative_counts=2),
    ),
    # Where the teacher keeps its weights in half precision.
    stages_in_bfloat16=(
        'stages',
        dict(optim_wrapper__type='MixedPrecisionOptimWrapper', optim_wrapper__dtype='bfloat16'),
    ),
    # Stopped where the second one begins, and so before it has a teacher.
    stages_at_a_boundary=('stages', dict(model__objective__stages=BEGINS_AT_THE_STOP)),
    # Of weightings that learn, too, and derivatives through dropout.
    sct=('sct', dict(model__channels_last=True, model__denoiser__network__dropout=0.3)),
    sct_of_a_song=('sct', dict(model__channels_last=True, model__denoiser__network=SONG)),
    scd=('scd', {}),
    # Stopped where the last stage begins, and within a stage.
    pd=('pd', {}),
    pd_within_a_stage=(
        'pd',
        dict(model__objective__curriculum__steps_per_stage=2),
    ),
    pd_accumulating=('pd', dict(optim_wrapper__accumulative_counts=2)),
    ct_with_dropout=('ct', dict(model__denoiser__network__dropout=0.3)),
    ict_with_flips=('ict', dict(train_dataloader__dataset__pipeline=FLIP)),
    ict_with_workers=(
        'ict',
        dict(train_dataloader__dataset__pipeline=FLIP, train_dataloader__num_workers=1),
    ),
    ict_without_a_seed=('ict', dict(randomness__seed=None)),
    # 8 steps of 2 batches, stopped after the third.
    ct_accumulating=('ct', dict(optim_wrapper__accumulative_counts=2)),
)


def lasting(path: Path) -> dict:
    """What a checkpoint holds beside the time of day."""
    checkpoint = read_checkpoint(path)
    meta = {key: checkpoint['meta'][key] for key in ('iter', 'epoch', 'seed', 'dataset_meta')}
    names = {'state_dict', 'emas', 'optimizer', 'param_schedulers', 'teacher'} & checkpoint.keys()
    return dict(meta=meta) | {name: checkpoint[name] for name in names}


def look(runner, batch, outputs) -> tuple:
    """What an iteration saw: its batch, its loss and its learning rate."""
    return batch, outputs['loss'].detach(), runner.optim_wrapper.get_lr()['lr']


@pytest.mark.parametrize('case', CASES)
def test_resumed_run_equals_the_uninterrupted_one(trainer, after_each, equal, case):
    objective, options = CASES[case]
    accumulate = options.get('optim_wrapper__accumulative_counts', 1)
    stop, steps = STOP * accumulate, STEPS * accumulate
    options = options | dict(max_iters=steps, default_hooks__checkpoint__interval=stop)

    whole = after_each(look)
    run = trainer(objective, whole, work_dir='whole', **options)
    run.train()

    rest = after_each(look)
    resumed = trainer(
        objective,
        rest,
        work_dir='resumed',
        resume=True,
        load_from=f'{run.work_dir}/iter_{stop}.pth',
        **options,
    )
    resumed.train()

    assert len(rest.seen) == steps - stop
    assert equal(rest.seen, whole.seen[stop:])
    last = f'iter_{steps}.pth'
    saved, expected = lasting(f'{resumed.work_dir}/{last}'), lasting(f'{run.work_dir}/{last}')
    for part in expected:
        assert equal(saved[part], expected[part]), part
    # Not equal by standing still.
    assert not equal(lasting(f'{run.work_dir}/iter_{stop}.pth')['emas'], expected['emas'])
    assert any(name.startswith('target.') for name in saved['state_dict']) == (
        objective in ('ct', 'cd')
    )
    learned = {name for name in saved['state_dict'] if name.startswith('objective.')}
    assert bool(learned) == (case == 'learned' or objective in ('sct', 'scd'))
    assert ('teacher' in saved) == (objective in ('pd', 'stages'))


def test_auto_resumes_after_an_interruption(trainer, after_each, equal, interrupt):
    options = dict(work_dir='whole', default_hooks__checkpoint__interval=STOP)
    run = trainer('ct', **options)
    run.train()
    expected = lasting(f'{run.work_dir}/iter_8.pth')

    options['work_dir'] = 'interrupted'
    with pytest.raises(KeyboardInterrupt):
        trainer('ct', interrupt(STOP + 2), **options).train()
    rest = after_each(lambda runner, *_: runner.iter)
    resumed = trainer('ct', rest, resume=True, **options)
    resumed.train()
    assert rest.seen == [*range(STOP, STEPS)]
    assert equal(lasting(f'{resumed.work_dir}/iter_8.pth'), expected)


ACCUMULATING = dict(
    optim_wrapper__type='MixedPrecisionOptimWrapper',
    optim_wrapper__dtype='bfloat16',
    optim_wrapper__accumulative_counts=3,
    default_hooks__checkpoint__interval=2,
    default_hooks__checkpoint__max_keep_ckpts=-1,
)


@pytest.fixture
def accumulated(trainer) -> Path:
    """The folder of a run of three steps, of 3, 3 and 2 batches."""
    run = trainer('ct', work_dir='whole', **ACCUMULATING)
    run.train()
    return Path(run.work_dir)


def test_checkpoints_wait_for_the_end_of_a_step(trainer, equal, accumulated):
    assert {path.name for path in accumulated.glob('*.pth')} == {f'iter_{n}.pth' for n in (3, 6, 8)}
    for begin in 3, 6:
        options = dict(resume=True, load_from=f'{accumulated}/iter_{begin}.pth')
        resumed = trainer('ct', work_dir=f'from_{begin}', **options, **ACCUMULATING)
        resumed.train()
        last = [lasting(Path(folder) / 'iter_8.pth') for folder in (accumulated, resumed.work_dir)]
        assert equal(*last)


def test_a_signal_waits_for_the_end_of_a_step(trainer, equal, accumulated, send_signal):
    options = ACCUMULATING | dict(work_dir='stopped', default_hooks__checkpoint__interval=100)
    with pytest.raises(Stopped, match=r'saved .*/iter_6\.pth') as caught:
        trainer('ct', send_signal(signal.SIGTERM, 5), **options).train()
    assert caught.value.number == signal.SIGTERM
    resumed = trainer('ct', resume=True, **options)
    resumed.train()
    last = [lasting(Path(folder) / 'iter_8.pth') for folder in (accumulated, resumed.work_dir)]
    assert equal(*last)


def test_a_stop_without_a_checkpoint_hook_says_so(trainer, send_signal):
    hook = send_signal(signal.SIGTERM, 1)
    with pytest.raises(Stopped, match='nothing'):
        trainer('edm', hook, default_hooks__checkpoint=None).train()


def test_auto_starts_anew_or_finds_nothing_to_do(trainer, after_each):
    for iterations in (2, 0):
        watch = after_each(lambda *_: None)
        trainer('ict', watch, resume=True, max_iters=2).train()
        assert len(watch.seen) == iterations


@pytest.mark.parametrize('workers', [0, 1])
def test_past_batches_are_not_read_again(trainer, monkeypatch, tmp_path, workers):
    first = trainer('ict', work_dir='first', max_iters=STOP)
    first.train()

    # In a file, since workers are processes of their own.
    log = tmp_path / 'draws'
    prepare = DigitsDataset.prepare_data

    def noting(self, draw):
        with log.open('a') as file:
            file.write(f'{draw[1][1]}\n')
        return prepare(self, draw)

    monkeypatch.setattr(DigitsDataset, 'prepare_data', noting)
    trainer(
        'ict',
        resume=True,
        load_from=f'{first.work_dir}/iter_{STOP}.pth',
        train_dataloader__num_workers=workers,
    ).train()
    draws = [int(line) for line in log.read_text().split()]
    expected = range(STOP * BATCH, STEPS * BATCH)
    # Workers read two batches ahead.
    assert draws[: len(expected)] == [*expected]
    assert len(draws) <= len(expected) + 2 * workers * BATCH


def test_the_seed_of_the_checkpoint_holds(trainer, equal):
    run = trainer('ict', work_dir='whole', default_hooks__checkpoint__interval=STOP)
    run.train()
    path = f'{run.work_dir}/iter_{STOP}.pth'
    resumed = trainer('ict', resume=True, load_from=path, randomness__seed=77)
    resumed.train()
    last = [lasting(f'{runner.work_dir}/iter_8.pth') for runner in (run, resumed)]
    assert equal(*last)


def test_grids_do_not_disturb_training(trainer, equal):
    grid = dict(type='SampleGridHook', interval=1, num_rows=1, num_columns=1)
    ends = []
    for hooks in [], [grid]:
        runner = trainer('ct', work_dir=f'{len(hooks)}', custom_hooks=hooks, max_iters=3)
        runner.train()
        ends.append(lasting(f'{runner.work_dir}/iter_3.pth'))
    assert equal(*ends)


@pytest.mark.parametrize(
    ('saved', 'wanted', 'name'),
    [
        (dict(model__denoiser__network__model_channels=16), {}, 'does not fit'),
        ({}, dict(load_from='/nowhere/iter_1.pth'), '/nowhere/iter_1'),
        # As MMEngine saves the best checkpoint.
        (dict(default_hooks__checkpoint__save_optimizer=False), {}, 'optimizer'),
    ],
)
def test_what_cannot_be_resumed_is_named(trainer, saved, wanted, name):
    first = trainer('ict', work_dir='first', max_iters=1, **saved)
    first.train()
    options = dict(load_from=f'{first.work_dir}/iter_1.pth') | wanted
    with pytest.raises(InputError, match=name):
        trainer('ict', resume=True, **options).train()
    if name == 'optimizer':
        trainer('ict', max_iters=1, **options).train()


def test_seeds_matter(trainer, equal):
    ends = []
    for seed in 0, 1, 0:
        runner = trainer('ict', max_iters=2, randomness__seed=seed, work_dir=f'run{len(ends)}')
        runner.train()
        ends.append(lasting(f'{runner.work_dir}/iter_2.pth')['state_dict'])
    assert equal(ends[0], ends[2])
    differ = [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])]
    assert 'denoiser.network.out.2.weight' in differ  # zero at the start
