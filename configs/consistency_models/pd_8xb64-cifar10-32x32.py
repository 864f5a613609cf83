_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Progressive distillation, 4096 steps to one, as the paper's baseline; without an EMA.
model = dict(
    denoiser=dict(parameterization='edm'),
    teacher=dict(checkpoint='work_dirs/edm_8xb64-cifar10-32x32/iter_400000.pth'),
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
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='SampleGridHook', interval=5000),
    dict(type='ProgressiveDistillationHook'),
]
test_evaluator = dict(paper=[dict(num_evaluations=1, fid=8.34, inception_score=8.69)])
