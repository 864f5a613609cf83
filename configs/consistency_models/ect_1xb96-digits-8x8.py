_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Easy consistency tuning (arXiv:2406.14548): diffusion pre-training, then consistency.
model = dict(
    denoiser=dict(parameterization='edm'),
    objective=dict(
        type='StagedObjective',
        stages=[
            (0.5, dict(type='DenoisingScoreMatching')),
            (1.0, dict(type='EasyConsistencyTuning')),
        ],
    ),
)
