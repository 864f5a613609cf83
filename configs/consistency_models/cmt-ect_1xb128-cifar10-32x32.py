_base_ = './ect_1xb128-cifar10-32x32.py'
# Easy consistency tuning after mid-training (arXiv:2509.24526): half of the images that it takes
# from a diffusion model, the gap small at once, and a rate that falls to 0. A run of its own, for
# batch, rate and EMA are others than in mid-training, which comes first:
#   python tools/train.py configs/consistency_models/cmt_1xb8-cifar10-32x32.py
model = dict(
    init_from='work_dirs/cmt_1xb8-cifar10-32x32/iter_300000.pth',
    objective=dict(q=4096.0, num_stages=1),
    sampler=dict(sigmas=(80.0, 0.77569)),
)
param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False)
train_cfg = dict(max_iters=100000)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=2.74),
        dict(num_evaluations=2, fid=1.97),
    ],
)
