_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Progressive distillation from 32 steps to one, in six stages. The teacher first:
#   python tools/train.py configs/consistency_models/edm_1xb96-digits-8x8.py
model = dict(
    denoiser=dict(parameterization='edm'),
    teacher=dict(checkpoint='work_dirs/edm_1xb96-digits-8x8/iter_1000.pth'),
    init_from='teacher',
    objective=dict(
        type='ProgressiveDistillation',
        curriculum=dict(type='HalvingCurriculum', start_scales=32, steps_per_stage=125),
    ),
    sampler=dict(type='ProgressiveSampler', num_steps=1),
)
train_cfg = dict(max_iters=1000)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = None  # ProgressiveDistillationHook lowers the rate, within each stage
custom_hooks = [*_base_.custom_hooks, dict(type='ProgressiveDistillationHook')]
