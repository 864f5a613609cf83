_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# Easy consistency tuning (arXiv:2406.14548) of the released EDM model, by the recipe published for
# ImageNet-64: 12.8 million images, the gap a quarter after every 3.2 million. There it tunes EDM2
# networks; the learning rate is that of its CIFAR-10 run.
model = dict(
    denoiser=dict(
        parameterization='edm',
        network=dict(dropout=0.4, dropout_resolutions=(16, 8), use_checkpoint=False),
    ),
    init_from='edm_imagenet64_ema.pt',
    objective=dict(
        type='EasyConsistencyTuning',
        q=4.0,
        num_stages=4,
        c=0.06,
        p_mean=-0.8,
        p_std=1.6,
        weighting='karras',
    ),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 1.526)),
)
train_dataloader = dict(batch_size=16)
auto_scale_lr = dict(base_batch_size=128)
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=100000)
