_base_ = [
    '../_base_/models/cifar10_ddpmpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Improved consistency training (arXiv:2310.14189), from scratch. There it trains NCSN++; the
# dropout is from memory.
model = dict(
    denoiser=dict(parameterization='consistency', network=dict(dropout=0.3)),
    objective=dict(
        type='ImprovedConsistencyTraining',
        curriculum=dict(type='DoublingCurriculum', start_scales=10, end_scales=1280),
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 0.821)),
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=400000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99993,)),
    dict(type='SampleGridHook', interval=5000),
]
