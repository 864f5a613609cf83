_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Consistency training (algorithm 3), from scratch. The learning rate is that of the launch commands
# of the paper's JAX code; its config alone says 2e-4.
model = dict(
    objective=dict(
        type='ConsistencyTraining',
        distance=dict(type='lpips', pooling='max', resize=224),
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=150, start_ema=0.9),
    ),
)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=8.70, inception_score=8.49),
        dict(num_evaluations=2, fid=5.83, inception_score=8.85),
    ],
)
