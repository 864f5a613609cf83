_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Consistency training in continuous time (arXiv:2410.11081) of EDM's own network. There it is
# EDM2's of size S, told the angle; this one is told ln(sigma) / 4, and the paper's, told 250 ln
# sigma, would learn nothing. The betas are those of CIFAR-10.
model = dict(
    denoiser=dict(
        parameterization='edm',
        c_noise='edm',
        network=dict(dropout=0.45, dropout_resolutions=(16, 8)),
    ),
    init_from='edm-imagenet-64x64-cond-adm.pkl',
    objective=dict(type='ContinuousConsistencyTraining', p_mean=-1.0, p_std=1.6),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 0.98238)),
)
optim_wrapper = dict(
    dtype='float32', optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99), eps=1e-11)
)
param_scheduler = dict(type='InverseSqrtLR', decay_after=35000, by_epoch=False)
train_cfg = dict(max_iters=400000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(), sigma_rels=(0.05,)),
    dict(type='SampleGridHook', interval=5000),
]
