_base_ = '../default_runtime.py'
# No warm-up, no clipping, no weight decay. bfloat16 where the paper's code has float16. The code
# trains with a batch of 256; the paper's table 3 says 2048.
train_cfg = dict(type='ResumableIterLoop', max_iters=600000)
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper', dtype='bfloat16', optimizer=dict(type='RAdam', lr=1e-5)
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9999, 0.99994, 0.9999432189950708)),
    dict(type='SampleGridHook', interval=5000, num_rows=4, num_columns=4, batch_size=8),
]
