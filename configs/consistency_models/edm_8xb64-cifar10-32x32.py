_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# The teacher: an EDM diffusion model as in the paper's JAX code, with a warm-up over 10 million
# images and an EMA whose half-life is 0.5 million.
model = dict(
    denoiser=dict(parameterization='edm', network=dict(dropout=0.13)),
    objective=dict(type='DenoisingScoreMatching', p_mean=-1.2, p_std=1.2, weighting='karras'),
    sampler=dict(type='HeunSampler', num_steps=18),
)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='LinearLR', start_factor=1e-4, by_epoch=False, end=19531)
train_cfg = dict(max_iters=400000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9992904691,)),
    dict(type='SampleGridHook', interval=5000),
]
test_evaluator = dict(paper=[dict(num_evaluations=35, fid=2.04, inception_score=9.84)])
