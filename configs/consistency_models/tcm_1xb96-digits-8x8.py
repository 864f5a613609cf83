_base_ = './ect_1xb96-digits-8x8.py'
# Truncated consistency training (arXiv:2410.14895) after diffusion pre-training and easy
# consistency tuning, whose network answers for levels below 1, and is where this begins. The gap
# stays as that of the last of its six stages.
weighting = dict(type='inverse-gap', power=0.4)
tuning = dict(num_stages=6, p_mean=0.0, p_std=1.8, weighting=weighting)
model = dict(
    teacher=dict(from_stage=True),
    objective=dict(
        stages=[
            (0.3, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (0.8, dict(type='EasyConsistencyTuning', **tuning)),
            (
                1.0,
                dict(
                    type='TruncatedConsistencyTraining',
                    ratio_limit=63 / 64,
                    p_std=1.0,
                    weighting=weighting,
                ),
            ),
        ],
    ),
)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.99,)),
    dict(type='SampleGridHook', interval=300),
    dict(type='StageHook'),
]
