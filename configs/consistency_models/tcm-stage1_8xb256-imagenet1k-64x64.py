_base_ = './ect_8xb16-imagenet1k-64x64.py'
# First stage of truncated consistency models (arXiv:2410.14895), of EDM's own network. Its code's
# command is for EDM2's of size S, whose weights are normalised: should ADM's diverge at this rate,
# take --cfg-options optim_wrapper.optimizer.lr=1e-4. The gap is a quarter after every 10,000 steps,
# down to 1/256. The command names no end of the stages: this length is ours.
model = dict(
    denoiser=dict(c_noise='edm', network=dict(use_checkpoint=True)),
    init_from='edm-imagenet-64x64-cond-adm.pkl',
    objective=dict(num_stages=10, ratio_limit=0.9961, r_min=1e-6, truncate=True),
    sampler=dict(sigmas=(80.0, 1.0)),
)
train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.99)))
param_scheduler = dict(type='InverseSqrtLR', decay_after=2000, by_epoch=False)
custom_hooks = [
    dict(type='CurriculumHook'),
    dict(type='EMAHook', rates=(), sigma_rels=(0.05,)),
    dict(type='SampleGridHook', interval=5000),
]
