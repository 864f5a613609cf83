"""``tools/analysis_tools/get_flops.py``: parameters and operations of a config."""

import json

import pytest
import torch
from mmengine.config import Config

from mmagic_cm.apis import load_config
from mmagic_cm.registry import MODELS

TOOL = 'tools/analysis_tools/get_flops.py'
CONFIGS = 'configs/consistency_models'


@pytest.fixture
def network_costs(load_script, in_child):
    """The function, called in a child: it uses fake tensors."""

    def costs(config, check, **settings):
        in_child(lambda: check(load_script(TOOL).network_costs(config, **settings)))

    return costs


@pytest.mark.parametrize(
    ('name', 'million', 'gflop'),
    [('cd-lpips_8xb256-imagenet1k-64x64', 295.9, 219.3), ('cd_cat256_lpips', 526.3, 2239)],
)
def test_the_networks_of_the_paper(network_costs, name, million, gflop):
    training = name.startswith('cd-')

    def check(figures):
        assert figures['parameters'] == pytest.approx(million * 1e6, rel=1e-3)
        once = figures['evaluation']
        assert once['gflop_per_image'] == pytest.approx(gflop, rel=1e-3)
        assert once['tflop_per_batch'] == pytest.approx(32 * gflop / 1e3, rel=1e-3)
        assert ('training' in figures) == training
        if training:
            step = figures['training']
            # The teacher's Heun step, the target, and the online network with its gradients.
            assert step['evaluations'] == dict(online=1, target=1, teacher=2)
            assert step['gflop_per_image'] == pytest.approx(6 * gflop, rel=1e-3)
            assert step['not_counted'] == ['LPIPS', 'recomputed activations']

    config = load_config(f'{CONFIGS}/{name}.py' if training else name)
    network_costs(config, check, batch_size=32)


def test_a_sampler_counts_its_evaluations_and_a_teacher_its_own_network(network_costs):
    config = load_config(f'{CONFIGS}/cd-l2_1xb96-digits-8x8.py')
    config.model.sampler = dict(type='HeunSampler', num_steps=4)
    wide = config.model.denoiser.to_dict()
    wide['network']['model_channels'] *= 2
    config.model.teacher.denoiser = wide

    def check(figures):
        own = figures['evaluation']['gflop_per_image']
        assert figures['image_shape'] == (1, 8, 8)
        assert figures['sampling']['gflop_per_image'] == pytest.approx(7 * own)
        # Four of its own and two of a teacher that is nearly four times as large.
        step = figures['training']
        assert step['forward_passes'] == 6
        assert (4 + 2 * 3.8) * own < step['gflop_per_image'] < (4 + 2 * 4) * own

    network_costs(config, check)


def test_guidance_doubles_what_it_guides(network_costs):
    config = load_config(f'{CONFIGS}/cd-l2_1xb96-digits-8x8.py')
    config.model.denoiser.network.null_class = True
    config.model.objective.guidance_scale = 2.0
    config.model.guidance_scale = 2.0

    def check(figures):
        assert figures['sampling']['forward_passes'] == 2
        assert figures['training']['evaluations'] == dict(online=1, target=1, teacher=4)

    network_costs(config, check)


def test_any_network_is_counted(network_costs):
    denoiser = dict(type='KarrasDenoiser', network=Convolution())
    model = dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser)

    def check(figures):
        assert figures['evaluation']['gflop_per_image'] == 2 * 64 * 9 / 1e9

    network_costs(Config(dict(model=model)), check)


class Convolution(torch.nn.Conv2d):
    """A network of the user's."""

    def __init__(self):
        super().__init__(1, 1, 3, padding=1)
        self.num_classes, self.image_size = None, 8

    def forward(self, x, timesteps, labels=None):
        return super().forward(x)


@pytest.mark.parametrize(
    ('name', 'at', 'forward_passes'),  # as docs/training.md has them
    [
        ('edm', 0.5, 3),
        ('ct', 0.5, 4),
        ('ict', 1.0, 4),
        ('ect', 0.2, 3),  # its first stage
        ('ect', 0.5, 4),
        ('cd-l2', 0.5, 6),
        ('pd', 0.9, 5),
    ],
)
def test_evaluations_of_a_training_step(load_script, name, at, forward_passes):
    config = load_config(f'{CONFIGS}/{name}_1xb96-digits-8x8.py')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    calls = load_script(TOOL).training_evaluations(model, int(at * 1000), 1000)
    assert calls['online'] == 1
    assert 2 * calls['online'] + sum(calls.values()) == forward_passes


def test_a_table_and_a_json(run_script, in_child, tmp_path):
    out = tmp_path / 'figures' / 'flops.json'
    config = f'{CONFIGS}/cd-l2_8xb256-imagenet1k-64x64.py'
    options = '--cfg-options', 'model.sampler.ts=(0,10,22,39)'

    def check():
        code, printed, said = run_script(TOOL, config, '--batch-size', 256, '--out', out, *options)
        assert code == 0, said
        _, _, *rows, _, _ = printed.splitlines()
        assert [row.split() for row in rows] == [
            ['evaluation', '1', '219.31', '56.144'],
            ['image', 'by', 'MultistepSampler', '3', '657.94', '168.43'],
            ['training', 'step', '6', '1315.9', '336.87'],
        ]

    in_child(check)
    assert json.loads(out.read_text())['config'] == config
