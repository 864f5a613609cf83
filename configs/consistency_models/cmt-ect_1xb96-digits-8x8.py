_base_ = './ect_1xb96-digits-8x8.py'
# Consistency mid-training (arXiv:2509.24526) between diffusion pre-training and easy consistency
# tuning: 25 batches, each of eight times 96 points, in the time of 200 others. So few want a short
# average, with which the next stage begins.
weighting = dict(type='inverse-gap', power=0.4)
tuning = dict(q=64, num_stages=1, p_mean=0.0, p_std=1.8, weighting=weighting)
model = dict(
    teacher=dict(from_stage=True),
    objective=dict(
        stages=[
            (0.45, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (0.50, dict(type='ConsistencyMidTraining', distance='l2', num_steps=8)),
            (1.00, dict(type='EasyConsistencyTuning', **tuning)),
        ],
    ),
)
train_cfg = dict(max_iters=500)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9,)),
    dict(type='SampleGridHook', interval=250),
    dict(type='StageHook'),
]
