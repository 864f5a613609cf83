_base_ = '../default_runtime.py'
# No warm-up, no clipping, no weight decay. bfloat16 where the paper's code has float16.
train_cfg = dict(type='ResumableIterLoop', max_iters=600000)
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper', dtype='bfloat16', optimizer=dict(type='RAdam', lr=1e-4)
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.999, 0.9999, 0.9999432189950708)),
    dict(type='SampleGridHook', interval=5000),
]
