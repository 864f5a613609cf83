_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Consistency distillation (algorithm 2). The teacher first:
#   python tools/train.py configs/consistency_models/edm_1xb96-digits-8x8.py
model = dict(
    teacher=dict(checkpoint='work_dirs/edm_1xb96-digits-8x8/iter_1000.pth'),
    init_from='teacher',
    objective=dict(
        type='ConsistencyDistillation',
        distance='l2',
        curriculum=dict(type='FixedCurriculum', target_ema=0.95, num_scales=18),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
