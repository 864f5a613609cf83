_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Improved consistency training (arXiv:2310.14189), from scratch, with the batch of the paper's CT.
model = dict(
    denoiser=dict(network=dict(dropout=0.3)),
    objective=dict(
        type='ImprovedConsistencyTraining',
        curriculum=dict(type='DoublingCurriculum', start_scales=10, end_scales=1280),
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=800000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99993,)),
    dict(type='SampleGridHook', interval=5000),
]
