_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Consistency training in continuous time (arXiv:2410.11081) after diffusion pre-training. The
# network is told the angle of TrigFlow: of ADM's 250 ln sigma it learns nothing.
levels = dict(p_mean=0.0, p_std=1.8)
model = dict(
    denoiser=dict(parameterization='edm', c_noise='trigflow', network=dict(pixel_norm_emb=True)),
    objective=dict(
        type='StagedObjective',
        stages=[
            (0.4, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (1.0, dict(type='ContinuousConsistencyTraining', warmup_steps=100, **levels)),
        ],
    ),
)
train_cfg = dict(max_iters=500)
