_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# An EDM diffusion model (arXiv:2206.00364): many steps a picture, and a teacher for distillation.
model = dict(
    denoiser=dict(parameterization='edm'),
    objective=dict(type='DenoisingScoreMatching'),
    sampler=dict(type='HeunSampler', num_steps=18),
)
train_cfg = dict(max_iters=1000)
