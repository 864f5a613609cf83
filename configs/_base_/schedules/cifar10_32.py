_base_ = '../default_runtime.py'
# Batches of 512 throughout; rates and steps are those of the paper's JAX code.
train_cfg = dict(type='ResumableIterLoop', max_iters=800000)
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper', dtype='bfloat16', optimizer=dict(type='RAdam', lr=4e-4)
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.999, 0.9999)),
    dict(type='SampleGridHook', interval=5000),
]
