# ADM's network for ImageNet at 64 x 64 (arXiv:2105.05233), as released: 296 million parameters.
model = dict(
    type='ConsistencyModel',
    _scope_='mmagic_cm',
    denoiser=dict(
        type='KarrasDenoiser',
        parameterization='consistency',
        network=dict(
            type='ADMUNet',
            image_size=64,
            model_channels=192,
            num_res_blocks=3,
            attention_resolutions=(32, 16, 8),
            num_head_channels=64,
            num_classes=1000,
            # In training, 256 images do not fit into the 80 GB of a GPU otherwise.
            use_checkpoint=True,
        ),
    ),
    sampler=dict(type='OnestepSampler'),
)
