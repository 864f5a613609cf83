_base_ = [
    '../_base_/models/cifar10_ddpmpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Consistency mid-training (arXiv:2509.24526) from EDM's network and with it, as its code's
# run_cmt_cifar.sh has it: a batch of 8 trajectories, which is 128 points, without flips. Its solver
# carries half of the quadratic term. Tune what comes out by cmt-ect_1xb128-cifar10-32x32.py.
model = dict(
    teacher=dict(checkpoint='edm-cifar10-32x32-uncond-vp.pkl'),
    init_from='teacher',
    objective=dict(type='ConsistencyMidTraining', quadratic='half'),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 0.77569)),
)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=[dict(type='PackImage')]))
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False)
train_cfg = dict(max_iters=300000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.999,)),
    dict(type='SampleGridHook', interval=5000),
]
