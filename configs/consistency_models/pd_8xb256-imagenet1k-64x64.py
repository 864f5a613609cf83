_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Progressive distillation, 4096 steps to one. The paper gives no settings for it here: these are
# its CIFAR-10 ones, with the LPIPS with which it reports it.
model = dict(
    denoiser=dict(parameterization='edm'),
    teacher=dict(checkpoint='edm_imagenet64_ema.pt'),
    init_from='teacher',
    objective=dict(
        type='ProgressiveDistillation',
        distance=dict(type='lpips', pooling='avg'),
        weighting='truncated-snr',
        curriculum=dict(type='HalvingCurriculum', start_scales=4096, steps_per_stage=50000),
    ),
    sampler=dict(type='ProgressiveSampler', num_steps=1),
)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-5), clip_grad=dict(max_norm=1.0))
train_cfg = dict(max_iters=750000)
custom_hooks = [*_base_.custom_hooks, dict(type='ProgressiveDistillationHook')]
test_evaluator = dict(paper=[dict(num_evaluations=1, fid=15.39, precision=0.59, recall=0.62)])
