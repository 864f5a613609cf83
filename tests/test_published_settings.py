"""Each training config of the paper's data sets against its published settings, in one table.

The paper's code (its launch script) and table 3, the recipes of iCT, ECT, CMT, sCT, sCD and TCM; a
comment in the config says where two of them disagree.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml

from mmagic_cm.apis import load_config
from mmagic_cm.objectives import LPIPS
from mmagic_cm.registry import MODELS

LEAVES = Path(__file__).parents[1] / 'configs/consistency_models'
# Half-lives of the longest EMAs: 50 million images of batch 4096.
IMAGENET_EMAS = (0.999, 0.9999, 0.9999432189950708)
LSUN_EMAS = (0.9999, 0.99994, 0.9999432189950708)
CIFAR_EMAS = (0.9999,)
CIFAR_EDM_EMA = 0.5 ** (512 / 0.5e6)  # a half-life of 0.5 million images
# (step, total steps) -> (target EMA, number of scales), from the reference's own tables.
CD_CURVE = {0: (0.95, 40), 599_999: (0.95, 40)}
CIFAR_CD_CURVE = {0: (0.0, 18), 799_999: (0.0, 18)}
CT_200_CURVE = {
    0: (0.9025, 2), 1: (0.95, 3), 1000: (0.98545164, 8), 100_000: (0.99855616, 72),
    400_000: (0.99927782, 143), 800_000: (0.99948720, 201),
}  # fmt: skip
CIFAR_CT_CURVE = {
    0: (0.81, 2), 100_000: (0.99603202, 54), 400_000: (0.99801404, 107), 800_000: (0.99859618, 151),
}  # fmt: skip
CT_150_ENDS = {0: (0.9025, 2), 1_000_000: (0.95 ** (2 / 150), 151)}
PD_CURVE = {0: (1.0, 4096), 50_000: (1.0, 2048), 550_000: (1.0, 2), 650_000: (1.0, 1)}
ICT_ENDS = {0: (0.0, 11), 'last': (0.0, 1281)}


@dataclass(frozen=True)
class Run:
    """What a run is made of; ``steps`` counts optimizer steps."""

    lr: float
    batch: int
    steps: int
    emas: tuple
    curve: dict = field(default_factory=dict)
    distance: str = 'l2'
    dropout: float = 0.0
    optimizer: str = 'RAdam'
    adam: dict = field(default_factory=dict)  # its other settings
    schedule: dict | None = None
    sigma_rels: tuple = ()  # of EMAs of power-function profiles
    clip: float | None = None
    weighting: str = 'uniform'
    parameterization: str = 'consistency'
    starts_from: str | None = None
    sigmas: tuple | None = None  # of the sampler, after 80
    dropout_at: tuple | None = None  # sizes of feature maps in pixels; None: all
    dtype: str = 'bfloat16'


EDM = dict(weighting='karras', parameterization='edm')
PD = dict(
    lr=5e-5, steps=750_000, curve=PD_CURVE, optimizer='Adam', clip=1.0, weighting='truncated-snr',
    parameterization='edm', starts_from='teacher',
)  # fmt: skip
ICT = dict(lr=1e-4, emas=(0.99993,), curve=ICT_ENDS, distance='pseudo-huber', dropout=0.3)
ICT = dict(ICT, weighting='inverse-gap', dtype='float32')
ECT = dict(lr=1e-4, distance='pseudo-huber', parameterization='edm', dtype='float32')
ECT_IMAGENET = dict(ECT, weighting='karras', dropout=0.4, dropout_at=(16, 8), steps=100_000)
SCM = dict(lr=1e-4, parameterization='edm', dtype='float32', sigmas=(0.98238,))
TO_ZERO = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False)
CMT = dict(
    lr=2e-4, batch=8, steps=300_000, emas=(0.999,), schedule=TO_ZERO, distance='lpips', dropout=0.2,
    parameterization='edm', starts_from='teacher', dtype='float32', sigmas=(0.77569,),
)  # fmt: skip


def after(steps: int) -> dict:
    """The schedule of EDM2, which falls from this step on."""
    return dict(type='InverseSqrtLR', decay_after=steps, by_epoch=False)


SCM_IMAGENET = dict(
    SCM, batch=2048, steps=400_000, emas=(), sigma_rels=(0.05,), schedule=after(35_000),
    optimizer='Adam', adam=dict(betas=(0.9, 0.99), eps=1e-11),
)  # fmt: skip
TCM_IMAGENET = dict(
    ECT_IMAGENET, emas=(), sigma_rels=(0.05,), optimizer='Adam', adam=dict(betas=(0.9, 0.99)),
    sigmas=(1.0,),
)  # fmt: skip


def lsun(name: str, cd_l2: float, cd_lpips: float, ct: float | None) -> dict[str, Run]:
    """The seven modes for one category; CD's second levels and CT's are its own."""
    data, edm = f'LSUN-{name}-256x256', f'edm_{name}256_ema.pt'
    cd = dict(batch=256, lr=1e-5, steps=600_000, emas=LSUN_EMAS, curve=CD_CURVE)
    cd = dict(cd, starts_from='teacher')
    return {
        f'edm_8xb32-{data}': Run(1e-4, 256, 1_000_000, IMAGENET_EMAS, dropout=0.1, **EDM),
        f'cd-l2_8xb32-{data}': Run(**cd, sigmas=(cd_l2,)),
        f'cd-lpips_8xb32-{data}': Run(**cd, distance='lpips', sigmas=(cd_lpips,)),
        f'ct_8xb32-{data}': Run(
            5e-5, 256, 1_000_000, LSUN_EMAS, CT_150_ENDS, distance='lpips', sigmas=(ct,)
        ),
        f'pd_8xb32-{data}': Run(batch=256, emas=LSUN_EMAS, distance='lpips', **PD),
        f'ict_8xb32-{data}': Run(batch=256, steps=1_000_000, **ICT),
        f'ect_8xb32-{data}': Run(batch=256, emas=LSUN_EMAS, starts_from=edm, **ECT_IMAGENET),
    }  # fmt: skip


IMAGENET, CIFAR = 'imagenet1k-64x64', 'cifar10-32x32'
EDM_IMAGENET, EDM_CIFAR = 'edm-imagenet-64x64-cond-adm.pkl', 'edm-cifar10-32x32-uncond-vp.pkl'
CD_IMAGENET = dict(
    lr=8e-6, batch=2048, steps=600_000, emas=IMAGENET_EMAS, curve=CD_CURVE, starts_from='teacher',
    sigmas=(1.38237,),
)  # fmt: skip
CD_CIFAR = dict(batch=512, steps=800_000, emas=CIFAR_EMAS, curve=CIFAR_CD_CURVE)
CD_CIFAR = dict(CD_CIFAR, starts_from='teacher', dtype='float32')
ECT_CIFAR = dict(ECT, emas=CIFAR_EMAS, dropout=0.2, weighting='inverse-gap')
SCM_CIFAR = dict(SCM, batch=512, emas=(CIFAR_EDM_EMA,), adam=dict(betas=(0.9, 0.99), eps=1e-8))
RUNS = {
    f'edm_8xb256-{IMAGENET}': Run(1e-4, 4096, 610_000, IMAGENET_EMAS, dropout=0.1, **EDM),
    f'cd-l2_8xb256-{IMAGENET}': Run(**CD_IMAGENET),
    f'cd-lpips_8xb256-{IMAGENET}': Run(**CD_IMAGENET, distance='lpips'),
    f'ct_8xb256-{IMAGENET}': Run(
        1e-4, 2048, 800_000, IMAGENET_EMAS, CT_200_CURVE, distance='lpips', sigmas=(1.913,)
    ),
    f'pd_8xb256-{IMAGENET}': Run(batch=2048, emas=IMAGENET_EMAS, distance='lpips', **PD),
    f'ict_8xb256-{IMAGENET}': Run(
        batch=4096, steps=800_000, dropout_at=(16, 8),
        **{**ICT, 'emas': (0.99997,), 'dropout': 0.2},
    ),
    f'ect_8xb16-{IMAGENET}': Run(
        batch=128, emas=IMAGENET_EMAS, starts_from='edm_imagenet64_ema.pt', **ECT_IMAGENET
    ),
    f'cmt_8xb1-{IMAGENET}': Run(**CMT),
    f'cmt-ect_8xb16-{IMAGENET}': Run(
        batch=128, emas=IMAGENET_EMAS, schedule=TO_ZERO, sigmas=(0.77569,),
        starts_from=f'work_dirs/cmt_8xb1-{IMAGENET}/iter_300000.pth', **ECT_IMAGENET,
    ),
    f'sct_8xb256-{IMAGENET}': Run(
        dropout=0.45, dropout_at=(16, 8), starts_from=EDM_IMAGENET, **SCM_IMAGENET
    ),
    f'scd_8xb256-{IMAGENET}': Run(dropout_at=(16, 8), starts_from='teacher', **SCM_IMAGENET),
    f'tcm-stage1_8xb256-{IMAGENET}': Run(
        batch=2048, schedule=after(2000), starts_from=EDM_IMAGENET, **{**TCM_IMAGENET, 'lr': 1e-3}
    ),
    f'tcm_8xb128-{IMAGENET}': Run(
        batch=1024, schedule=after(8000), starts_from='teacher', **{**TCM_IMAGENET, 'lr': 5e-4}
    ),
    **lsun('bedroom', cd_l2=3.51970, cd_lpips=4.36556, ct=3.991),
    **lsun('cat', cd_l2=3.51970, cd_lpips=4.36556, ct=5.249),
    f'edm_8xb64-{CIFAR}': Run(
        1e-3, 512, 400_000, (CIFAR_EDM_EMA,), dropout=0.13, optimizer='Adam', dtype='float32',
        **EDM,
    ),
    f'cd-l1_8xb64-{CIFAR}': Run(2e-4, **CD_CIFAR, distance='l1'),
    f'cd-l2_8xb64-{CIFAR}': Run(4e-4, **CD_CIFAR),
    f'cd-lpips_8xb64-{CIFAR}': Run(4e-4, **CD_CIFAR, distance='lpips'),
    f'ct_8xb64-{CIFAR}': Run(
        4e-4, 512, 800_000, CIFAR_EMAS, CIFAR_CT_CURVE, distance='lpips', dtype='float32'
    ),
    f'pd_8xb64-{CIFAR}': Run(batch=512, emas=(), dtype='float32', **PD),
    f'ict_8xb128-{CIFAR}': Run(batch=1024, steps=400_000, sigmas=(0.821,), **ICT),
    f'ect_1xb128-{CIFAR}': Run(
        batch=128, steps=200_000, starts_from=EDM_CIFAR, sigmas=(0.821,), **ECT_CIFAR
    ),
    f'cmt_1xb8-{CIFAR}': Run(**CMT),
    f'cmt-ect_1xb128-{CIFAR}': Run(
        batch=128, steps=100_000, schedule=TO_ZERO, sigmas=(0.77569,),
        starts_from=f'work_dirs/cmt_1xb8-{CIFAR}/iter_300000.pth', **ECT_CIFAR,
    ),
    f'sct_8xb64-{CIFAR}': Run(steps=350_000, dropout=0.2, starts_from=EDM_CIFAR, **SCM_CIFAR),
    f'scd_8xb64-{CIFAR}': Run(steps=500_000, starts_from='teacher', **SCM_CIFAR),
    f'tcm-stage1_8xb64-{CIFAR}': Run(
        batch=512, steps=250_000, starts_from=EDM_CIFAR, sigmas=(1.0,), **ECT_CIFAR
    ),
    f'tcm_8xb128-{CIFAR}': Run(
        batch=1024, steps=250_000, starts_from='teacher', sigmas=(1.0,),
        **{**ECT_CIFAR, 'lr': 5e-5},
    ),
}  # fmt: skip
TEACHERS = {
    'imagenet1k': 'edm_imagenet64_ema.pt',
    'bedroom': 'edm_bedroom256_ema.pt',
    'cat': 'edm_cat256_ema.pt',
    'cifar10': 'edm_cifar10_ema.msgpack',
}
EDM_TEACHERS = {'imagenet1k': EDM_IMAGENET, 'cifar10': EDM_CIFAR}
STAGES = {
    f'tcm_8xb128-{CIFAR}': f'work_dirs/tcm-stage1_8xb64-{CIFAR}/iter_250000.pth',
    f'tcm_8xb128-{IMAGENET}': f'work_dirs/tcm-stage1_8xb256-{IMAGENET}/iter_100000.pth',
}
LATER = ('cmt', 'sct', 'scd', 'tcm')
BY_NAME = pytest.mark.parametrize('name', RUNS)


@functools.cache
def read(name: str):
    return load_config(LEAVES / f'{name}.py')


@functools.cache
def build(name: str):
    with torch.device('meta'):
        return MODELS.build(read(name).model)


def test_every_training_config_of_the_paper_is_in_the_table():
    leaves = {
        path.stem
        for path in LEAVES.glob('*.py')
        if 'train_cfg' in read(path.stem) and not {'digits', 'folder'} & set(path.stem.split('-'))
    }
    assert leaves == RUNS.keys()
    modes = {'edm', 'cd-l2', 'cd-lpips', 'ct', 'pd', 'ict', 'ect'}
    later = {'cmt', 'cmt-ect', 'sct', 'scd', 'tcm-stage1', 'tcm'}
    assert {name.split('_')[0] for name in leaves} == modes | {'cd-l1'} | later
    assert len(leaves) == 4 * len(modes) + 1 + 2 * len(later)


@BY_NAME
def test_optimisation(name):
    cfg, run = read(name), RUNS[name]
    assert cfg.optim_wrapper.optimizer == dict(type=run.optimizer, lr=run.lr, **run.adam)
    assert cfg.optim_wrapper.get('clip_grad') == (run.clip and dict(max_norm=run.clip))
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    gpus = int(name.split('_')[1].split('xb')[0])
    assert gpus * cfg.train_dataloader.batch_size * accumulated == run.batch
    assert cfg.auto_scale_lr.base_batch_size == run.batch
    assert cfg.train_cfg.max_iters == run.steps * accumulated
    assert cfg.optim_wrapper.dtype == run.dtype
    hooks = {hook.type: hook for hook in cfg.custom_hooks}
    assert hooks.get('EMAHook', {}).get('rates', ()) == pytest.approx(run.emas, rel=1e-9)
    assert hooks.get('EMAHook', {}).get('sigma_rels', ()) == run.sigma_rels
    assert ('ProgressiveDistillationHook' in hooks) == name.startswith('pd')
    # CIFAR-10's EDM warms up over 10 million images.
    warm_up = dict(type='LinearLR', start_factor=1e-4, by_epoch=False, end=round(10e6 / 512))
    own = warm_up if name.startswith('edm_8xb64-cifar10') else run.schedule
    assert cfg.get('param_scheduler') == own


@BY_NAME
def test_network_and_objective(name):
    run, model = RUNS[name], build(name)
    dropouts = {m.p for m in model.denoiser.modules() if isinstance(m, torch.nn.Dropout)}
    assert dropouts == ({run.dropout} if run.dropout_at is None else {0, run.dropout})
    assert read(name).model.denoiser.network.get('dropout_resolutions') == run.dropout_at
    assert read(name).model.denoiser.parameterization == run.parameterization
    objective = model.objective
    weighting = read(name).model.objective.get('weighting')
    if run.weighting == 'inverse-gap':  # the default of iCT and ECT, with power 1
        assert weighting is None
        assert objective.weighting.power == 1
    else:
        assert (weighting or 'uniform') == run.weighting
    if run.distance == 'lpips':
        assert isinstance(objective.distance, LPIPS)
        # The paper's code pools by averages in PyTorch, by maxima in JAX, as the lpips package.
        of_package = 'cifar10' in name or name.startswith('cmt')
        assert objective.distance.pooling == ('max' if of_package else 'avg')
        assert objective.distance.resize == (None if name.startswith('cmt') else 224)
    else:
        found = getattr(objective.distance, '__name__', type(objective.distance).__name__)
        assert found == ('PseudoHuber' if run.distance == 'pseudo-huber' else run.distance)
    for step, (target_ema, num_scales) in run.curve.items():
        step = run.steps - 1 if step == 'last' else step
        found = objective.curriculum(step, run.steps)
        assert found == (pytest.approx(target_ema, rel=1e-6), num_scales), step


@pytest.mark.parametrize('name', [name for name in RUNS if CIFAR in name])
def test_networks_of_cifar10(name):
    network = build(name).denoiser.network
    tensors = {key: tensor.numel() for key, tensor in network.state_dict().items()}
    tensors = {k: count for k, count in tensors.items() if not k.endswith('resample_filter')}
    # The JAX code's with its Fourier frequencies; EDM's without the input for its augmentation.
    of_jax = name.startswith(('edm', 'cd', 'ct', 'pd'))
    assert sum(tensors.values()) == (56_395_651 if of_jax else 55_733_891 - 9 * 128)
    assert build(name).denoiser.c_noise == 'edm'


@BY_NAME
def test_where_it_starts(name):
    cfg, run = read(name), RUNS[name]
    assert cfg.model.get('init_from') == run.starts_from
    taught = name.startswith(('cd', 'pd', 'cmt_', 'scd', 'tcm_'))
    assert ('teacher' in cfg.model) == taught
    if taught:
        later = EDM_TEACHERS if name.startswith(('cmt', 'scd')) else TEACHERS
        checkpoint = STAGES.get(name) or later[data_of(name)]
        assert cfg.model.teacher == dict(checkpoint=checkpoint)
    # EDM's ImageNet-64 network is told another noise level than the paper's.
    of_edm = CIFAR in name or name.startswith(LATER)
    assert build(name).denoiser.c_noise == ('edm' if of_edm else 'adm')


@BY_NAME
def test_sampler(name):
    run, model = RUNS[name], build(name)
    if run.sigmas is not None:
        found = model.sampler.sigmas
        assert found[0] == 80
        assert tuple(found[1 : 1 + len(run.sigmas)]) == pytest.approx(run.sigmas, rel=1e-3)
    elif name.startswith('edm'):
        assert model.sampler.num_evaluations == (79 if 'cifar10' not in name else 35)
    elif name.startswith('pd'):
        assert model.sampler.num_evaluations == 1


def test_the_published_levels_are_drawn():
    tuning = ('ect', 'cmt-ect', 'tcm-stage1')
    for name in RUNS:
        if name.startswith(('ict', 'sct', 'scd', 'tcm_', *tuning)):
            objective = build(name).objective
            of_imagenet = name.startswith(tuning) and CIFAR not in name
            expected = (-0.8, 1.6) if of_imagenet else (-1.1, 2.0)
            if name.startswith(('sct', 'scd')):
                # 1.8 is of FastGen, which starts sCT from EDM's network, too.
                on_cifar = 1.8 if name.startswith('sct') else 1.4
                expected = (-1.0, on_cifar if CIFAR in name else 1.6)
            if name.startswith('tcm_'):
                expected = (0.0, 0.2)
                assert (objective.df, objective.boundary) == (0.01, 1.0)
            assert (objective.p_mean, objective.p_std) == expected


@pytest.mark.parametrize('name', [name for name in RUNS if name.startswith('cmt-ect')])
def test_the_gap_after_mid_training(name):
    objective = build(name).objective
    assert (objective.q, objective.num_stages) == (4096, 1)
    assert objective.distance.c == (0 if CIFAR in name else 0.06)


@pytest.mark.parametrize('data', [CIFAR, IMAGENET])
def test_the_gaps_of_tcm(data):
    [first] = [name for name in RUNS if name.startswith('tcm-stage1') and data in name]
    [second] = [name for name in RUNS if name.startswith('tcm_') and data in name]
    q, limit, c, stage = (2, 0.999, 1e-8, 25_000) if data == CIFAR else (4, 0.9961, 0.06, 10_000)
    for name in (first, second):
        objective = build(name).objective
        found = objective.q, objective.ratio_limit, objective.distance.c, objective.r_min
        assert found == (q, limit, c, 1e-6)
    ends = torch.tensor([1.0, 80.0], dtype=torch.float64)
    objective, steps = build(first).objective, RUNS[first].steps
    assert steps // objective.num_stages == stage
    # At 80 the gap is 1/q in the first stage, and from the last one on as small as it gets.
    for step, ratio in ((stage - 1, 1 - 1 / q), (stage, 1 - q**-2), (steps - 1, limit)):
        assert objective.next_level(ends, step, steps)[1] / 80 == pytest.approx(ratio, rel=1e-6)
    last = objective.next_level(ends, steps - 1, steps)
    assert build(second).objective.next_level(ends, 0, 10).tolist() == last.tolist()


def test_the_solver_of_mid_training_on_cifar10_is_as_published():
    assert build(f'cmt_1xb8-{CIFAR}').objective.quadratic == 'half'
    assert build(f'cmt_1xb8-{CIFAR}').objective.num_steps == 16


@pytest.mark.parametrize('name', [name for name in RUNS if name.startswith('ect')])
def test_the_gaps_of_ect_end_where_they_were_published_to(name):
    run, objective = RUNS[name], build(name).objective
    # Eight stages of q = 2 on CIFAR-10, four of q = 4 on ImageNet: the last gap, of any level, is
    # 1/256 to 5/256 of it.
    assert (objective.q, objective.num_stages) == ((2, 8) if CIFAR in name else (4, 4))
    assert run.steps // objective.num_stages * run.batch == (6.4e6 if 'LSUN' in name else 3.2e6)
    assert objective.distance.c == (0 if CIFAR in name else 0.06)
    sigma = torch.tensor([1e-3, 0.1, 1.0, 10.0, 80.0], dtype=torch.float64)
    last = objective.next_level(sigma, run.steps - 1, run.steps)
    gaps = 1 - last / sigma
    assert gaps.min().item() == pytest.approx(1 / 256, rel=1e-3)
    assert gaps.max().item() == pytest.approx(5 / 256, rel=1e-3)


def test_what_trains_without_flips_on_cifar10():
    pipelines = {
        name: {step.type for step in read(name).train_dataloader.dataset.pipeline}
        for name in RUNS
        if CIFAR in name
    }
    without = [name for name, steps in pipelines.items() if 'RandomFlip' not in steps]
    assert {name.split('_')[0] for name in without} == {
        'ect',
        'cmt',
        'cmt-ect',
        'tcm-stage1',
        'tcm',
    }


# (FID, precision, recall), or (FID, IS) of CIFAR-10, by the number of network evaluations:
# arXiv:2303.01469, tables 1 and 2; of the later methods the FIDs of their own.
FIGURES = {
    ('imagenet1k', 'edm'): {79: (2.44, 0.71, 0.67)},
    ('imagenet1k', 'pd'): {1: (15.39, 0.59, 0.62)},
    ('imagenet1k', 'cd'): {1: (6.20, 0.68, 0.63), 2: (4.70, 0.69, 0.64)},
    ('imagenet1k', 'ct'): {1: (13.0, 0.71, 0.47), 2: (11.1, 0.69, 0.56)},
    ('bedroom', 'edm'): {79: (3.57, 0.66, 0.45)},
    ('bedroom', 'pd'): {1: (16.92, 0.47, 0.27)},
    ('bedroom', 'cd'): {1: (7.80, 0.66, 0.34), 2: (5.22, 0.68, 0.39)},
    ('bedroom', 'ct'): {1: (16.0, 0.60, 0.17), 2: (7.85, 0.68, 0.33)},
    ('cat', 'edm'): {79: (6.69, 0.70, 0.43)},
    ('cat', 'pd'): {1: (29.6, 0.51, 0.25)},
    ('cat', 'cd'): {1: (11.0, 0.65, 0.36), 2: (8.84, 0.66, 0.40)},
    ('cat', 'ct'): {1: (20.7, 0.56, 0.23), 2: (11.7, 0.63, 0.36)},
    ('cifar10', 'edm'): {35: (2.04, 9.84)},
    ('cifar10', 'pd'): {1: (8.34, 8.69), 2: (5.58, 9.05)},
    ('cifar10', 'cd'): {1: (3.55, 9.48), 2: (2.93, 9.75)},
    ('cifar10', 'ct'): {1: (8.70, 8.49), 2: (5.83, 8.85)},
    ('cifar10', 'ect'): {1: (3.86,), 2: (2.15,)},
    ('cifar10', 'cmt-ect'): {1: (2.74,), 2: (1.97,)},
    ('cifar10', 'sct'): {1: (2.85,), 2: (2.06,)},
    ('cifar10', 'scd'): {1: (3.66,), 2: (2.52,)},
    ('cifar10', 'tcm'): {1: (2.46,), 2: (2.05,)},
}
JUDGED = sorted(
    path.stem
    for path in LEAVES.glob('*.py')
    if not {'digits', 'folder'} & set(path.stem.replace('_', '-').split('-'))
)
STATISTICS = {
    'imagenet1k': 'VIRTUAL_imagenet64_labeled.npz',
    'bedroom': 'VIRTUAL_lsun_bedroom256.npz',
    'cat': 'VIRTUAL_lsun_cat256.npz',
}


def data_of(name: str) -> str:
    [data] = {'imagenet1k', 'bedroom', 'cat', 'cifar10'} & set(name.split('-'))
    return data


def mode_of(name: str) -> str:
    """'cd' of LPIPS; the released models of consistency training are that of Cat's two steps."""
    if name.startswith('consistency_models'):
        return read(name).load_from.split('_')[0]
    mode = name.split('_')[0]
    return 'cd' if mode == 'cd-lpips' else mode


@pytest.mark.parametrize('name', JUDGED)
def test_figures_of_the_paper(name):
    evaluator = read(name).test_evaluator
    found = {figures.num_evaluations: figures for figures in evaluator.get('paper', ())}
    expected = FIGURES.get((data_of(name), mode_of(name)), {})
    second = ('inception_score',) if data_of(name) == 'cifar10' else ('precision', 'recall')
    assert found == {
        count: dict(zip(('num_evaluations', 'fid', *second), (count, *figures), strict=False))
        for count, figures in expected.items()
    }
    if expected:
        # One of them is of the config's own sampler.
        assert build(name).sampler.num_evaluations in expected


@pytest.mark.parametrize('name', JUDGED)
def test_what_judging_draws_and_compares_with(name):
    cfg = read(name)
    numbers = cfg.test_dataloader.dataset
    assert numbers == dict(
        type='SampleNumbers',
        num_samples=50_000,
        **({'num_classes': 1000} if data_of(name) == 'imagenet1k' else {}),
    )
    assert cfg.model.denoiser.network.get('num_classes') == numbers.get('num_classes')
    reference = cfg.test_evaluator.reference
    if data_of(name) == 'cifar10':
        assert reference.dataset.type == 'CIFAR10'
    else:
        assert reference == f'data/statistics/{STATISTICS[data_of(name)]}'
    # A run must not need them.
    assert cfg.get('val_evaluator') is None


def test_the_index_says_the_same_figures():
    index = yaml.safe_load((LEAVES / 'metafile.yml').read_text())
    checked = 0
    for model in index['Models']:
        [result] = model['Results']
        count = model['Metadata'].get('Number Of Function Evaluations')
        if 'FID (paper)' not in result['Metrics']:
            continue
        paper = read(model['Name']).test_evaluator.paper
        [figures] = [figures for figures in paper if figures.num_evaluations == count]
        assert figures.fid == result['Metrics']['FID (paper)'], model['Name']
        checked += 1
    assert checked >= 20
