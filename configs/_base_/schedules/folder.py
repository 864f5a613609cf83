_base_ = '../default_runtime.py'
# 19 million images. After 50 iterations the log says how long that will take.
train_cfg = dict(type='ResumableIterLoop', max_iters=300000)
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper', dtype='float32', optimizer=dict(type='RAdam', lr=1e-4)
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9999,)),
    dict(type='SampleGridHook', interval=5000, num_rows=8, num_columns=8),
]
