_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/default_runtime.py',
]
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_imagenet64_lpips.pt'
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=6.20, precision=0.68, recall=0.63),
        dict(num_evaluations=2, fid=4.70, precision=0.69, recall=0.64),
    ],
)
