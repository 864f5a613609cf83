_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/datasets/lsun_bedroom_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/schedules/lsun_256.py',
]
# Consistency training (algorithm 3). The paper starts it from random weights and its table 3 says
# lr 1e-5; its code says 5e-5, and starts it from the EDM model: init_from='edm_bedroom256_ema.pt'.
model = dict(
    objective=dict(
        type='ConsistencyTraining',
        distance=dict(type='lpips', pooling='avg'),
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=150, start_ema=0.95),
    ),
    sampler=dict(type='MultistepSampler', ts=(0, 67, 150), num_scales=151),
)
optim_wrapper = dict(optimizer=dict(lr=5e-5))
train_cfg = dict(max_iters=1000000)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=16.0, precision=0.60, recall=0.17),
        dict(num_evaluations=2, fid=7.85, precision=0.68, recall=0.33),
    ],
)
