_base_ = './sct_1xb96-digits-8x8.py'
# Distillation in continuous time (arXiv:2410.11081), of the diffusion model that the run begins
# with, and longer than for sCT, which does not depend on it so.
levels = dict(p_mean=0.0, p_std=1.8)
model = dict(
    teacher=dict(from_stage=True),
    objective=dict(
        stages=[
            (0.5, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (1.0, dict(type='ContinuousConsistencyDistillation', warmup_steps=100, **levels)),
        ],
    ),
)
train_cfg = dict(max_iters=600)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99,)),
    dict(type='SampleGridHook', interval=300),
    dict(type='StageHook'),
]
