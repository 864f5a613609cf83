_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Improved consistency training (arXiv:2310.14189), from scratch. Batch (two times 8 x 256), EMA
# and length are the paper's; dropout, and where it is, are from memory.
model = dict(
    denoiser=dict(network=dict(dropout=0.2, dropout_resolutions=(16, 8))),
    objective=dict(
        type='ImprovedConsistencyTraining',
        curriculum=dict(type='DoublingCurriculum', start_scales=10, end_scales=1280),
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
)
optim_wrapper = dict(dtype='float32', accumulative_counts=2, optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(max_iters=1600000)  # batches: 800,000 optimizer steps
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99997,)),
    dict(type='SampleGridHook', interval=5000),
]
