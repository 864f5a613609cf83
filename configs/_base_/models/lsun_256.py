# ADM's network for LSUN at 256 x 256 (arXiv:2105.05233), as released: 526 million parameters.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='consistency',
        network=dict(
            type='ADMUNet',
            image_size=256,
            model_channels=256,
            num_res_blocks=2,
            attention_resolutions=(32, 16, 8),
            num_head_channels=64,
            use_scale_shift_norm=False,
            # In training, 32 images do not fit into the 80 GB of a GPU otherwise.
            use_checkpoint=True,
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
