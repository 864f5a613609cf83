_base_ = [
    '../_base_/models/cifar10_ddpmpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Easy consistency tuning (arXiv:2406.14548), its run of one hour on one GPU: one stage, q = 256, no
# flips.
model = dict(
    denoiser=dict(network=dict(dropout=0.2)),
    init_from='work_dirs/edm_8xb64-cifar10-32x32/iter_400000.pth',
    objective=dict(type='EasyConsistencyTuning', q=256.0, num_stages=1, c=0.0),
)
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=[dict(type='PackImage')]))
auto_scale_lr = dict(base_batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=8000)  # 1 million images
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(0.9993,)),
    dict(type='SampleGridHook', interval=1000),
]
