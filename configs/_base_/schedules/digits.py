_base_ = '../default_runtime.py'
# About two minutes on two CPU cores.
train_cfg = dict(type='ResumableIterLoop', max_iters=600)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.99), fused=True)
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, eta_min=1e-5)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99,)),
    dict(type='SampleGridHook', interval=300),
]
default_hooks = dict(checkpoint=dict(interval=300))
