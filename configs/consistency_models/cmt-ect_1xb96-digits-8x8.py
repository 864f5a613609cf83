_base_ = './ect_1xb96-digits-8x8.py'
# Consistency mid-training (arXiv:2509.24526) between diffusion pre-training and easy consistency
# tuning: 60 batches, each of four times 96 points, in the time of 240 others. So few want a short
# average, with which the next stage begins.
weighting = dict(type='inverse-gap', power=0.4)
tuning = dict(num_stages=6, p_mean=0.0, p_std=1.8, weighting=weighting)
model = dict(
    teacher=dict(from_stage=True),
    objective=dict(
        stages=[
            (0.44, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (0.56, dict(type='ConsistencyMidTraining', distance='l2', num_steps=4)),
            (1.00, dict(type='EasyConsistencyTuning', **tuning)),
        ],
    ),
)
train_cfg = dict(max_iters=500)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.97,)),
    dict(type='SampleGridHook', interval=250),
    dict(type='StageHook'),
]
