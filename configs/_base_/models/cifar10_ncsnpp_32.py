# NCSN++ (arXiv:2011.13456) as the paper's JAX code has it on CIFAR-10, unconditional: 56 million
# parameters.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='consistency',
        network=dict(
            type='SongUNet',
            image_size=32,
            model_channels=128,
            channel_mult=(2, 2, 2),
            num_res_blocks=4,
            attention_resolutions=(16,),
            dropout=0.0,
            channel_mult_noise=2,
            embedding='fourier',
            encoder='residual',
            resample_filter=(1, 3, 3, 1),
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
