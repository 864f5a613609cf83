_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Consistency distillation (algorithm 2); mu = 0: the online network is its own target. The teacher
# is the released one. One of your own (edm_8xb64-cifar10-32x32) instead:
#   --cfg-options model.teacher.checkpoint=work_dirs/edm_8xb64-cifar10-32x32/iter_400000.pth
model = dict(
    teacher=dict(checkpoint='edm_cifar10_ema.msgpack'),
    init_from='teacher',
    objective=dict(
        type='ConsistencyDistillation',
        distance='l2',
        solver='heun',
        curriculum=dict(type='FixedCurriculum', target_ema=0.0, num_scales=18),
    ),
)
