_base_ = './sct_8xb256-imagenet1k-64x64.py'
# Distillation in continuous time (arXiv:2410.11081) of EDM's own network, which is told ln(sigma) /
# 4. There teacher and student are EDM2's, told the angle.
model = dict(
    denoiser=dict(network=dict(dropout=0.0)),
    teacher=dict(checkpoint='edm-imagenet-64x64-cond-adm.pkl'),
    init_from='teacher',
    objective=dict(type='ContinuousConsistencyDistillation'),
)
