_base_ = [
    '../_base_/models/digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
]
# Improved consistency training (arXiv:2310.14189), from scratch.
model = dict(
    objective=dict(
        type='ImprovedConsistencyTraining',
        # 1,280 scales want more iterations than a demo has.
        curriculum=dict(type='DoublingCurriculum', start_scales=10, end_scales=160),
    ),
)
