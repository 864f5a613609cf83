_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# The paper's consistency training (algorithm 3), from scratch: weak in so short a run.
model = dict(
    objective=dict(
        type='ConsistencyTraining',
        distance='l2',
        curriculum=dict(type='GrowingCurriculum', start_scales=2, end_scales=150, start_ema=0.9),
    ),
)
