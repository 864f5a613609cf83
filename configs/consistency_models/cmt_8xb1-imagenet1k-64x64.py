_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Consistency mid-training (arXiv:2509.24526) of EDM's own network. There it is EDM2's on this data:
# batch (8 trajectories, which is 128 points), rate, dropout, EMA and length are those of CIFAR-10.
model = dict(
    denoiser=dict(
        parameterization='edm',
        c_noise='edm',
        network=dict(dropout=0.2, use_checkpoint=False),
    ),
    teacher=dict(checkpoint='edm-imagenet-64x64-cond-adm.pkl'),
    init_from='teacher',
    objective=dict(type='ConsistencyMidTraining'),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 0.77569)),
)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=2e-4))
param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False)
train_cfg = dict(max_iters=300000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.999,)),
    dict(type='SampleGridHook', interval=5000),
]
