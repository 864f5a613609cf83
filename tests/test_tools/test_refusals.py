"""What commands refuse by themselves, in one line that names it.

What the package refuses is tested there; of bad input to every command see ``test_campaign``.
"""

import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = dict(
    CT='ct_1xb96-digits-8x8',
    SAMPLING='consistency_models_8xb256-imagenet1k-onestep-64x64',
)
CASES = """
tools/train.py SAMPLING | train_cfg
tools/train.py plain.py --auto-scale-lr | base_batch_size
tools/train.py CT --seed -1 | -1
tools/train.py CT --launcher pytorch | torchrun
tools/train.py CT --amp --cfg-options optim_wrapper.type=ApexOptimWrapper | ApexOptimWrapper
tools/train.py CT --cfg-options train_cfg.max_iters=0 | max_iters
tools/train.py CT --cfg-options load_from=/nowhere.pth | /nowhere.pth
tools/train.py CT --cfg-options model.objective=None | objective
tools/train.py CT --cfg-options model.denoiser.network.channel_mult.1=5 | channel_mult.1
tools/train.py CT --cfg-options optim_wrapper.optimizer.lr=fast | optim_wrapper
tools/train.py CT --cfg-options optim_wrapper.clip_grad.max_nrm=1 | max_nrm
tools/train.py CT --cfg-options default_hooks.checkpoint.max_keep_ckpt=2 | max_keep_ckpts
tools/train.py CT --cfg-options optim_wraper.optimizer.lr=1 | optim_wrapper
tools/benchmark.py CT --what train --compile | --compile
tools/benchmark.py CT --what train --compare diffusers | diffusers
tools/benchmark.py SAMPLING --what train | train_cfg
tools/edit.py inpaint CT x.pth a.png --out out | inpainting
tools/edit.py stroke CT x.pth a.png sub/a.png --out out | 'a'
tools/analysis_tools/browse_dataset.py SAMPLING | train_dataloader
tools/analysis_tools/print_config.py CT --out whole.txt | whole.txt
tools/analysis_tools/plot_run.py nothing | nothing
tools/dataset_converters/imagenet.py /nowhere --out x | /nowhere
tools/dataset_converters/lsun.py | --download
tools/dataset_converters/lsun.py /nowhere | /nowhere
mmagic_cm.evaluation.__main__ x.npz y.npz --extractor no.pt | no.pt
"""


@pytest.mark.parametrize('case', CASES.strip().splitlines())
def test_one_line_names_what_is_wrong(case, run_script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / 'tools')  # where scripts find each other
    monkeypatch.delenv('RANK', raising=False)
    base = f'mmagic_cm::consistency_models/{CONFIGS["CT"]}.py'
    (tmp_path / 'plain.py').write_text(f'_base_ = {base!r}\nauto_scale_lr = dict(_delete_=True)\n')
    command, named = case.split(' | ')
    for name, config in CONFIGS.items():
        command = command.replace(name, config)
    if '--cfg-options' in command:
        # MMEngine's logs are global, by this name.
        command += f' log_level=ERROR experiment_name={uuid.uuid4().hex}'
    status, _, said = run_script(*command.split())
    assert status == 1
    [line] = said.splitlines()
    assert line.startswith('error: ')
    assert named in line
    assert not [*tmp_path.rglob('*.pth')]
