_base_ = '../default_runtime.py'
# Two CPU cores take about two minutes.
train_cfg = dict(type='ResumableIterLoop', max_iters=1200)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='RAdam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, eta_min=1e-5)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99, 0.998)),
    dict(type='SampleGridHook', interval=400),
]
default_hooks = dict(checkpoint=dict(interval=400))
