_base_ = './ect_8xb16-imagenet1k-64x64.py'
# Easy consistency tuning after mid-training (arXiv:2509.24526), which comes first:
#   python tools/train.py configs/consistency_models/cmt_8xb1-imagenet1k-64x64.py
# There it is EDM2's network on this data. The gap, the falling rate and the second level are those
# of CIFAR-10, all else is the recipe of ECT for ImageNet-64.
model = dict(
    denoiser=dict(c_noise='edm'),
    init_from='work_dirs/cmt_8xb1-imagenet1k-64x64/iter_300000.pth',
    objective=dict(q=4096.0, num_stages=1),
    sampler=dict(sigmas=(80.0, 0.77569)),
)
param_scheduler = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False)
