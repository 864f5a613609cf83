_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/datasets/lsun_bedroom_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/schedules/lsun_256.py',
]
# The teacher: an EDM diffusion model. The paper does not give its length.
model = dict(
    denoiser=dict(parameterization='edm', network=dict(dropout=0.1)),
    objective=dict(type='DenoisingScoreMatching', p_mean=-1.2, p_std=1.2, weighting='karras'),
    sampler=dict(type='HeunSampler', num_steps=40),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=1000000)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.999, 0.9999, 0.9999432189950708)),
    dict(type='SampleGridHook', interval=5000, num_rows=4, num_columns=4, batch_size=8),
]
test_evaluator = dict(paper=[dict(num_evaluations=79, fid=3.57, precision=0.66, recall=0.45)])
