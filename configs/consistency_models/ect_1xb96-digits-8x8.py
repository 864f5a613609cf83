_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Easy consistency tuning (arXiv:2406.14548) after a third of diffusion pre-training. One-step
# samples depend on large noise levels, to which the paper's settings give little in so short a
# run: here more of them are drawn, and the weights fall less steeply with the gap.
model = dict(
    denoiser=dict(parameterization='edm'),
    objective=dict(
        type='StagedObjective',
        stages=[
            (0.35, dict(type='DenoisingScoreMatching', p_mean=-0.5, p_std=1.5)),
            (
                1.0,
                dict(
                    type='EasyConsistencyTuning',
                    num_stages=6,
                    p_mean=0.0,
                    p_std=1.8,
                    weighting=dict(type='inverse-gap', power=0.4),
                ),
            ),
        ],
    ),
)
