import pytest
import torch
from mmengine.config import Config

from mmagic_cm.apis import load_config
from mmagic_cm.benchmarks.costs import network_costs, training_evaluations
from mmagic_cm.benchmarks.rates import operations, total_flops
from mmagic_cm.errors import InputError
from mmagic_cm.registry import MODELS

CONFIGS = 'configs/consistency_models'


@pytest.mark.parametrize(
    ('name', 'million', 'gflop'),
    [('cd-lpips_8xb256-imagenet1k-64x64', 295.9, 219.3), ('cd_cat256_lpips', 526.3, 2239)],
)
def test_the_networks_of_the_paper(in_child, name, million, gflop):
    def check():
        training = name.startswith('cd-')
        figures = network_costs(load_config(f'{CONFIGS}/{name}.py' if training else name), 32)
        assert figures['parameters'] == pytest.approx(million * 1e6, rel=1e-3)
        assert sum(figures['parameters_by_kind'].values()) == figures['parameters']
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

    in_child(check)


def test_the_figures_are_those_of_a_real_network(in_child):
    config = load_config(f'{CONFIGS}/edm_1xb96-digits-8x8.py')
    config.model.sampler = dict(type='HeunSampler', num_steps=4)
    network = MODELS.build(config.model.denoiser.network)
    flops = total_flops(operations(network, 1))
    embeddings = [network.time_embed, network.label_emb]
    embeddings += [
        module.emb_layers for module in network.modules() if hasattr(module, 'emb_layers')
    ]

    def check():
        figures = network_costs(config)
        assert figures['image_shape'] == (1, 8, 8)
        assert figures['parameters'] == sum(p.numel() for p in network.parameters())
        assert figures['parameters_by_kind']['embeddings'] == sum(
            p.numel() for module in embeddings for p in module.parameters()
        )
        attention = network.middle_block[1]
        assert figures['parameters_by_kind']['attention'] == sum(
            p.numel() for p in attention.parameters()
        )
        sampling = figures['sampling']
        assert sampling['sampler'] == 'HeunSampler'
        assert sampling['evaluations'] == 7
        assert sampling['gflop_per_image'] == pytest.approx(7 * flops / 1e9)
        assert figures['training']['gflop_per_image'] == pytest.approx(3 * flops / 1e9)

    in_child(check)


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
def test_evaluations_of_a_training_step(name, at, forward_passes):
    config = load_config(f'{CONFIGS}/{name}_1xb96-digits-8x8.py')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    calls = training_evaluations(model, int(at * 1000), 1000)
    assert calls['online'] == 1
    assert 2 * calls['online'] + sum(calls.values()) == forward_passes


def test_guidance_doubles_what_it_guides(in_child):
    config = load_config(f'{CONFIGS}/cd-l2_1xb96-digits-8x8.py')
    config.model.denoiser.network.null_class = True
    config.model.objective.guidance_scale = 2.0
    config.model.guidance_scale = 2.0

    def check():
        figures = network_costs(config)
        assert figures['sampling']['evaluations'] == 2
        assert figures['training']['evaluations'] == dict(online=1, target=1, teacher=4)

    in_child(check)


def test_a_teacher_counts_with_its_own_network(in_child):
    config = load_config(f'{CONFIGS}/cd-l2_1xb96-digits-8x8.py')
    wide = config.model.denoiser.to_dict()
    wide['network']['model_channels'] *= 2
    config.model.teacher.denoiser = wide
    own = total_flops(operations(MODELS.build(config.model.denoiser.network), 1))
    its = total_flops(operations(MODELS.build(wide['network']), 1))

    def check():
        step = network_costs(config)['training']
        assert step['gflop_per_image'] == pytest.approx((4 * own + 2 * its) / 1e9)

    in_child(check)


def test_what_cannot_be_counted():
    with pytest.raises(InputError, match="The config has no 'model'"):
        network_costs(Config())
    denoiser = dict(type='KarrasDenoiser', network=Convolution())
    model = dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser)
    with pytest.raises(InputError, match='of an ADMUNet can be counted, not those of a Convolu'):
        network_costs(Config(dict(model=model)))


class Convolution(torch.nn.Conv2d):
    """A network of the user's."""

    def __init__(self):
        super().__init__(1, 1, 3)
        self.num_classes, self.image_size = None, 8
