_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/default_runtime.py',
]
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_bedroom256_lpips.pt'
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=7.80, precision=0.66, recall=0.34),
        dict(num_evaluations=2, fid=5.22, precision=0.68, recall=0.39),
    ],
)
