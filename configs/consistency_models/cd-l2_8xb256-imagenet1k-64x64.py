_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Consistency distillation (algorithm 2).
model = dict(
    teacher=dict(checkpoint='edm_imagenet64_ema.pt'),
    init_from='teacher',
    objective=dict(
        type='ConsistencyDistillation',
        distance='l2',
        solver='heun',
        curriculum=dict(type='FixedCurriculum', target_ema=0.95, num_scales=40),
    ),
    sampler=dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40),
)
optim_wrapper = dict(optimizer=dict(lr=8e-6))
