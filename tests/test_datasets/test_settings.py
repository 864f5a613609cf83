"""What a config takes from the command line and from the data."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmagic_cm.apis import generate, init_model, load_config
from mmagic_cm.datasets import fill_num_classes, merge_options
from mmagic_cm.errors import InputError
from mmagic_cm.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs'
LEAF = CONFIGS / 'consistency_models/ect_1xb64-folder-64x64.py'
TINY = {
    'model.denoiser.network.model_channels': 32,
    'model.denoiser.network.num_head_channels': 32,
    'model.denoiser.network.channel_mult': (1,),
    'model.denoiser.network.num_res_blocks': 1,
}


def leaf(root, **options) -> Config:
    cfg = load_config(LEAF)
    merge_options(cfg, {'data_root': str(root), **TINY, **options})
    fill_num_classes(cfg)
    return cfg


def test_data_root_reaches_the_data_sets_that_had_it():
    cfg = Config(
        dict(
            data_root='old',
            train_dataloader=dict(dataset=dict(type='A', data_root='old')),
            val_dataloader=dict(dataset=dict(type='A', data_root='other')),
            test_dataloader=None,
            val_evaluator=[dict(type='B', reference='old')],
            test_evaluator=dict(type='B', reference=dict(dataset=dict(type='A', data_root='old'))),
        )
    )
    merge_options(cfg, dict(data_root='new'))
    assert cfg.test_evaluator.reference.dataset.data_root == 'new'
    assert cfg.data_root == 'new'
    assert cfg.train_dataloader.dataset.data_root == 'new'
    assert cfg.val_dataloader.dataset.data_root == 'other'
    # And again, as for a config that the Runner has saved.
    merge_options(cfg, dict(data_root='newer'))
    assert cfg.train_dataloader.dataset.data_root == 'newer'
    merge_options(cfg, {'data_root': 'newest', 'train_dataloader.dataset.data_root': 'mine'})
    assert cfg.train_dataloader.dataset.data_root == 'mine'


@pytest.mark.parametrize('name', ['imagenet_64', 'lsun_bedroom_256', 'cifar10_32', 'folder'])
def test_data_root_of_every_data_set_can_be_set(name):
    cfg = load_config(CONFIGS / f'_base_/datasets/{name}.py')
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root
    merge_options(cfg, dict(data_root='/elsewhere'))
    assert cfg.train_dataloader.dataset.data_root == '/elsewhere'
    with pytest.raises(InputError, match='/elsewhere'):
        DATASETS.build(cfg.train_dataloader.dataset)


@pytest.mark.parametrize(
    ('paths', 'options', 'expected'),
    [
        (('a/1.png', 'b/2.png', 'c/3.png'), {}, 3),
        (('1.png', '2.png'), {}, None),
        (('a/1.png', 'b/2.png'), dict(num_classes=None), None),
        (('a/1.png', 'b/2.png'), {'train_dataloader.dataset.labels': None}, None),
    ],
)
def test_the_network_has_the_classes_of_the_folder(folder, tmp_path, paths, options, expected):
    cfg = leaf(folder(*paths), **options)
    assert cfg.model.denoiser.network.num_classes == expected
    cfg.dump(tmp_path / 'dumped.py')
    dumped = load_config(tmp_path / 'dumped.py')
    assert dumped.num_classes == expected
    # Without the data.
    assert init_model(dumped).num_classes == expected
    fill_num_classes(dumped)
    assert dumped.model.denoiser.network.num_classes == expected


def test_the_leaf_trains_on_a_folder(folder, tmp_path):
    root = folder(*(f'{"ab"[i % 2]}/{i}.png' for i in range(6)), **{'5': b'broken'})
    for path in root.rglob('*.png'):
        if path.stem != '5':
            Image.open(path).resize((90, 70)).save(path)
    cfg = leaf(
        root,
        **{
            'work_dir': str(tmp_path / 'run'),
            'train_cfg.max_iters': 3,
            'model.denoiser.network.image_size': 16,
            'train_dataloader.dataset.pipeline.1.size': 16,
            'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': 1,
            'experiment_name': 'folder',
            'log_level': 'ERROR',
        },
    )
    cfg.custom_hooks[2] = dict(type='RunSummaryHook')
    Runner.from_cfg(cfg).train()
    model = init_model(f'{tmp_path}/run/{LEAF.name}', f'{tmp_path}/run/iter_3.pth')
    images, labels = generate(model, 2)
    assert images.shape == (2, 16, 16, 3)
    assert {*labels} <= {0, 1}


def test_other_configs_stay_as_they_are():
    cfg = Config(dict(model=dict(denoiser=dict(network=dict(num_classes=10)))))
    fill_num_classes(cfg)
    assert cfg.model.denoiser.network.num_classes == 10
