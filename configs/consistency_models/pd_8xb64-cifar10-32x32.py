_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Progressive distillation, 4096 steps to one, as the paper's baseline. The teacher is the
# released one; --cfg-options model.teacher.checkpoint=FILE takes one of your own.
model = dict(
    denoiser=dict(parameterization='edm'),
    teacher=dict(checkpoint='edm_cifar10_ema.msgpack'),
    init_from='teacher',
    objective=dict(
        type='ProgressiveDistillation',
        distance='l2',
        weighting='truncated-snr',
        curriculum=dict(type='HalvingCurriculum', start_scales=4096, steps_per_stage=50000),
    ),
    sampler=dict(type='ProgressiveSampler', num_steps=1),
)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-5), clip_grad=dict(max_norm=1.0))
train_cfg = dict(max_iters=750000)
custom_hooks = [*_base_.custom_hooks[::2], dict(type='ProgressiveDistillationHook')]  # no EMA
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=8.34, inception_score=8.69),
        dict(num_evaluations=2, fid=5.58, inception_score=9.05),  # of the stage before the last
    ],
)
