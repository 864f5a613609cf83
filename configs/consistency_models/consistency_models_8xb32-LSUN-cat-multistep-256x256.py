_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/default_runtime.py',
]
model = dict(sampler=dict(type='MultistepSampler', ts=(0, 62, 150), num_scales=151, _delete_=True))
load_from = 'ct_cat256.pt'
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
    paper=[
        dict(num_evaluations=1, fid=20.7, precision=0.56, recall=0.23),
        dict(num_evaluations=2, fid=11.7, precision=0.63, recall=0.36),
    ],
)
