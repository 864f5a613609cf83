# Unconditional, for 32 x 32. The paper's CIFAR-10 runs (in JAX) have NCSN++ with the same widths,
# depth and attention; its FIR resampling and Fourier features are not in this network.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='consistency',
        network=dict(
            type='ADMUNet',
            image_size=32,
            model_channels=128,
            channel_mult=(2, 2, 2),
            num_res_blocks=4,
            attention_resolutions=(16,),
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
