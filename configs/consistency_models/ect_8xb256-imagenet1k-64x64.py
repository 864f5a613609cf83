_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Easy consistency tuning (arXiv:2406.14548) of the released EDM model. Its published runs here tune
# EDM2 networks, 100,000 steps of batch 128 (train_dataloader.batch_size=16) in four stages.
model = dict(
    denoiser=dict(parameterization='edm', network=dict(dropout=0.2)),
    init_from='edm_imagenet64_ema.pt',
    objective=dict(type='EasyConsistencyTuning', q=2.0, num_stages=4, c=0.0),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=100000)
