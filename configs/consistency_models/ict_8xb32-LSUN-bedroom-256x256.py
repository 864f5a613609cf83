_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/datasets/lsun_bedroom_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/schedules/lsun_256.py',
]
# Improved consistency training (arXiv:2310.14189), from scratch. It was not published for LSUN: the
# settings are its CIFAR-10 ones (the dropout from memory), with the batch of the paper's CT.
model = dict(
    denoiser=dict(network=dict(dropout=0.3)),
    objective=dict(
        type='ImprovedConsistencyTraining',
        curriculum=dict(type='DoublingCurriculum', start_scales=10, end_scales=1280),
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
)
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=1000000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99993,)),
    dict(type='SampleGridHook', interval=5000, num_rows=4, num_columns=4, batch_size=8),
]
