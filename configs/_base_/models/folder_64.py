# 61 million parameters: a fifth of the paper's network for this size, for one GPU.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='edm',
        network=dict(
            type='ADMUNet',
            image_size=64,
            model_channels=128,
            channel_mult=(1, 2, 2, 3),
            num_res_blocks=2,
            attention_resolutions=(16, 8),
            num_head_channels=64,
            # tools/train.py puts in what the data say (num_classes of the data set's config).
            num_classes=None,
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
