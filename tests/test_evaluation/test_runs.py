"""Runners that judge, and runs that validate."""

import json
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.errors import InputError
from mmagic_cm.evaluation import GenerativeMetrics
from mmagic_cm.evaluation.report import CAVEAT
from mmagic_cm.evaluation.runs import caveats, describe_judging, judging_runner, published
from mmagic_cm.registry import DIFFUSION_SAMPLERS

CONFIGS = Path(__file__).parents[2] / 'configs/consistency_models'
REAL = dict(dataset=dict(type='DigitsDataset'))
NUMBERS = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='SampleNumbers', num_samples=40, num_classes=10),
)
JUDGE = dict(
    type='GenerativeMetrics',
    names=('fid', 'recall'),
    extractor='PixelFeatures',
    reference=REAL,
    paper=[dict(num_evaluations=1, fid=6.2), dict(num_evaluations=2, fid=4.7, inception_score=9)],
)


@pytest.fixture
def config():
    """A tiny model that is judged by 40 images."""
    cfg = load_config(CONFIGS / 'ect_1xb96-digits-8x8.py')
    cfg.merge_from_dict(
        {
            'model.denoiser.network.model_channels': 8,
            'model.denoiser.network.channel_mult': (1,),
            'model.denoiser.network.norm_groups': 4,
            'log_level': 'ERROR',
        }
    )
    cfg.test_dataloader, cfg.test_evaluator = NUMBERS, JUDGE
    cfg.experiment_name = uuid.uuid4().hex
    return cfg


@pytest.fixture
def checkpoint(config, tmp_path):
    model = init_model(config, device='cpu')
    torch.nn.init.normal_(model.denoiser.network.out[2].weight, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'


@pytest.fixture
def expected(figures_of):
    def figures(config, checkpoint, count=40, **settings) -> dict:
        images, _ = generate(init_model(config, checkpoint), count, **settings)
        return figures_of(images, JUDGE['names'], rel=1e-3)

    return figures


def test_figures_are_those_of_generated_images(config, checkpoint, expected, tmp_path):
    runner = judging_runner(config, checkpoint, work_dir=tmp_path / 'run', progress=False)
    assert runner.test() == expected(config, checkpoint)
    assert published(runner) == dict(fid=6.2)
    about = describe_judging(runner, checkpoint)
    assert (about['images'], about['network evaluations'], about['seed']) == (40, 1, 0)
    assert about['crop of the reference'] == 'none: 8 x 8 as stored'
    # Once more, with another sampler: the reference is not read again.
    runner.model.sampler = DIFFUSION_SAMPLERS.build(
        dict(type='MultistepSampler', sigmas=(80.0, 1.5))
    )
    again = runner.test()
    assert again == expected(config, checkpoint, sampler=runner.model.sampler)
    assert published(runner) == {'fid': 4.7, 'is': 9}


def test_what_the_caller_changes(config, checkpoint, expected, tmp_path):
    sampler = dict(type='HeunSampler', num_steps=2)
    runner = judging_runner(
        config,
        checkpoint,
        work_dir=tmp_path / 'run',
        options={'test_dataloader.batch_size': 7},
        sampler=sampler,
        num_samples=20,
        seed=3,
        progress=False,
    )
    assert runner.test() == expected(config, checkpoint, 20, sampler=sampler, seed=3)
    assert published(runner) == {}
    assert config.test_dataloader.dataset.num_samples == 40


def test_what_is_refused(config, checkpoint, tmp_path):
    config.test_evaluator = None
    with pytest.raises(InputError, match='test_evaluator'):
        judging_runner(config, checkpoint)
    config.test_evaluator = dict(JUDGE, reference=str(tmp_path / 'VIRTUAL_lsun_cat256.npz'))
    runner = judging_runner(config, checkpoint, work_dir=tmp_path / 'run', progress=False)
    with pytest.raises(InputError, match=r'VIRTUAL_lsun_cat256\.npz'):
        runner.test()
    with pytest.raises(InputError, match='not 0'):
        judging_runner(config, checkpoint, num_samples=0)
    config.test_dataloader.dataset = dict(type='DigitsDataset')
    with pytest.raises(InputError, match='1,400: 5,000'):
        judging_runner(config, checkpoint, num_samples=5000)


@pytest.mark.parametrize(
    ('leaf', 'checkpoint', 'is_flattered'),
    [
        ('cd-lpips_8xb256-imagenet1k-64x64', 'iter_1.pth', True),
        ('cd-l2_8xb256-imagenet1k-64x64', 'iter_1.pth', False),
        ('ct_8xb64-cifar10-32x32', 'iter_1.pth', True),
        ('edm_8xb64-cifar10-32x32', 'iter_1.pth', False),
        ('consistency_models_8xb256-imagenet1k-onestep-64x64', 'auto', True),
        ('consistency_models_8xb256-imagenet1k-onestep-64x64', 'dir/cd_imagenet64_l2.pt', False),
        ('consistency_models_8xb32-LSUN-cat-multistep-256x256', 'auto', True),
        ('continuous_ct_cifar10_lpips', 'auto', True),
        ('continuous_ct_cifar10_l2', 'auto', False),
    ],
)
def test_models_that_were_trained_with_lpips_get_a_caveat(leaf, checkpoint, is_flattered):
    evaluator = SimpleNamespace(metrics=[])
    runner = SimpleNamespace(cfg=load_config(leaf), test_evaluator=evaluator)
    assert caveats(runner, checkpoint) == []
    evaluator.metrics = [GenerativeMetrics(('is',))]
    assert caveats(runner, checkpoint) == ([CAVEAT] if is_flattered else [])


@pytest.fixture
def train(config, tmp_path):
    """Train it for some iterations; what it logged."""

    def run(iterations, **options):
        config.train_cfg.max_iters = iterations
        config.work_dir = str(tmp_path / 'run')
        config.custom_hooks = [dict(type='CurriculumHook'), dict(type='EMAHook', rates=(0.5,))]
        options = {
            'train_dataloader.batch_size': 8,
            'val_cfg': dict(type='ValLoop'),
            'val_dataloader': NUMBERS,
            'val_evaluator': JUDGE,
            **options,
        }
        config.merge_from_dict(options)
        runner = Runner.from_cfg(config)
        runner.train()
        text = (Path(runner.log_dir) / 'vis_data/scalars.json').read_text()
        return [json.loads(line) for line in text.splitlines()]

    return run


def test_a_run_validates_and_keeps_its_best_checkpoint(train, config, expected, tmp_path):
    logged = train(
        6,
        **{
            'train_cfg.val_interval': 2,
            'default_hooks.checkpoint': dict(interval=100, save_best='fid', rule='less'),
        },
    )
    figures = {line['step']: line['fid'] for line in logged if 'fid' in line}
    assert figures.keys() == {2, 4, 6}
    assert all('recall' in line for line in logged if 'fid' in line)
    best = min(figures, key=figures.get)
    [path] = (tmp_path / 'run').glob('best_*.pth')
    assert path.name == f'best_fid_iter_{best}.pth'
    # What was judged is the average that the checkpoint holds.
    assert dict(expected(config, path))['fid'] == figures[best]


def test_a_run_without_its_reference_stops_before_it_trains(train, tmp_path):
    missing = dict(JUDGE, reference=str(tmp_path / 'none.npz'))
    with pytest.raises(InputError, match=r'none\.npz'):
        train(
            2,
            val_evaluator=missing,
            **{'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 1},
        )
    assert not [*(tmp_path / 'run').glob('*.pth')]
