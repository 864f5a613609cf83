# DDPM++ (arXiv:2011.13456) as EDM, ECT and TCM have it on CIFAR-10, unconditional: 56 million
# parameters.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='edm',
        network=dict(
            type='SongUNet',
            image_size=32,
            model_channels=128,
            channel_mult=(2, 2, 2),
            num_res_blocks=4,
            attention_resolutions=(16,),
            dropout=0.2,
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
