_base_ = [
    '../_base_/models/cifar10_ncsnpp_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/default_runtime.py',
]
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_cifar10_lpips.msgpack'
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=3.55, inception_score=9.48),
        dict(num_evaluations=2, fid=2.93, inception_score=9.75),
    ],
)
