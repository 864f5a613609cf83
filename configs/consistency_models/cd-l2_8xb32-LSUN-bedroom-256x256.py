_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/datasets/lsun_bedroom_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/schedules/lsun_256.py',
]
# Consistency distillation (algorithm 2).
model = dict(
    teacher=dict(checkpoint='edm_bedroom256_ema.pt'),
    init_from='teacher',
    objective=dict(
        type='ConsistencyDistillation',
        distance='l2',
        solver='heun',
        curriculum=dict(type='FixedCurriculum', target_ema=0.95, num_scales=40),
    ),
    sampler=dict(type='MultistepSampler', ts=(0, 18, 39), num_scales=40),
)
