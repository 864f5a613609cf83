_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/default_runtime.py',
]
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_cat256_lpips.pt'
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
    paper=[
        dict(num_evaluations=1, fid=11.0, precision=0.65, recall=0.36),
        dict(num_evaluations=2, fid=8.84, precision=0.66, recall=0.40),
    ],
)
