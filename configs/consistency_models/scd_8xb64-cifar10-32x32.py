_base_ = './sct_8xb64-cifar10-32x32.py'
# Distillation in continuous time (arXiv:2410.11081). There teacher and student are told the angle
# (c_noise='trigflow'); EDM's network, from which both are made here, wants ln(sigma) / 4.
model = dict(
    denoiser=dict(network=dict(dropout=0.0)),
    teacher=dict(checkpoint='edm-cifar10-32x32-uncond-vp.pkl'),
    init_from='teacher',
    objective=dict(type='ContinuousConsistencyDistillation', p_std=1.4),
)
train_cfg = dict(max_iters=500000)
test_evaluator = dict(paper=[dict(num_evaluations=1, fid=3.66), dict(num_evaluations=2, fid=2.52)])
