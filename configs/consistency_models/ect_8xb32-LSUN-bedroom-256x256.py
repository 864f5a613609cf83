_base_ = [
    '../_base_/models/lsun_256.py',
    '../_base_/datasets/lsun_bedroom_256.py',
    '../_base_/evaluation/lsun_256.py',
    '../_base_/schedules/lsun_256.py',
]
# Easy consistency tuning (arXiv:2406.14548) of the released EDM model. It was not published for
# LSUN: the settings are its ImageNet-64 ones, with the batch of the paper's CT.
model = dict(
    denoiser=dict(parameterization='edm', network=dict(dropout=0.4, dropout_resolutions=(16, 8))),
    init_from='edm_bedroom256_ema.pt',
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
optim_wrapper = dict(dtype='float32', optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=100000)
