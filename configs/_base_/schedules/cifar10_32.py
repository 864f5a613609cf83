_base_ = '../default_runtime.py'
# Rates, steps, batches of 512 and the EMA are those of the paper's JAX code, in which RAdam has
# neither warm-up nor clipping; and so is float32: bfloat16 loses the difference of two nearly equal
# outputs, from which the later methods learn.
train_cfg = dict(type='ResumableIterLoop', max_iters=800000)
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper', dtype='float32', optimizer=dict(type='RAdam', lr=4e-4)
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9999,)),
    dict(type='SampleGridHook', interval=5000),
]
