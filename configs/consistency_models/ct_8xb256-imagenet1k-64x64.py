_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Consistency training (algorithm 3). The paper starts it from random weights and its table 3 says
# lr 8e-6; its code says 1e-4, and starts it from the EDM model: init_from='edm_imagenet64_ema.pt'.
model = dict(
    objective=dict(
        type='ConsistencyTraining',
        distance=dict(type='lpips', pooling='avg'),
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=200, start_ema=0.95),
    ),
    sampler=dict(type='MultistepSampler', ts=(0, 106, 200), num_scales=201),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=800000)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=13.0, precision=0.71, recall=0.47),
        dict(num_evaluations=2, fid=11.1, precision=0.69, recall=0.56),
    ],
)
