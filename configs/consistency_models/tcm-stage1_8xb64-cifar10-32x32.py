_base_ = [
    '../_base_/models/cifar10_ddpmpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# First stage of truncated consistency models (arXiv:2410.14895), as its code's command has it: easy
# consistency tuning of EDM's network without flips, the gap halved every 25,000 steps down to
# 1/1000. The command names no end: this gives the last gap as long as the others.
model = dict(
    init_from='edm-cifar10-32x32-uncond-vp.pkl',
    objective=dict(
        type='EasyConsistencyTuning',
        num_stages=10,
        ratio_limit=0.999,
        r_min=1e-6,
        truncate=True,
        c=1e-8,
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.0)),
)
train_dataloader = dict(dataset=dict(pipeline=[dict(type='PackImage')]))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=250000)
