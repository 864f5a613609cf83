"""Checkpoints of a run that went wrong."""

from pathlib import Path

import pytest
from mmengine.runner import find_latest_checkpoint

from mmagic_cm.checkpoints import read_checkpoint
from mmagic_cm.engine import CheckpointHook
from mmagic_cm.errors import InputError


@pytest.mark.parametrize('keep', [1, 2])
def test_diverged_weights_do_not_replace_good_ones(trainer, poison, keep):
    runner = trainer(
        'ct',
        poison(3),
        # No loss is read before the checkpoint.
        default_hooks__runtime_info__interval=100,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=keep,
    )
    with pytest.raises(InputError, match=r'^denoiser\..* no longer finite at iteration 4\. '):
        runner.train()
    assert [path.name for path in Path(runner.work_dir).glob('*.pth')] == ['iter_2.pth']
    latest = find_latest_checkpoint(runner.work_dir)
    assert read_checkpoint(latest)['meta']['iter'] == 2


def test_configs_name_our_hook_and_its_settings_hold(trainer):
    runner = trainer(
        'edm',
        max_iters=7,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=2,
    )
    assert any(type(hook) is CheckpointHook for hook in runner.hooks)
    runner.train()
    names = {path.name for path in Path(runner.work_dir).glob('*.pth')}
    assert names == {'iter_6.pth', 'iter_7.pth'}
