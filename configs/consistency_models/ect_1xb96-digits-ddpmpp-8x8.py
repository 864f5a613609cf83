_base_ = './ect_1xb96-digits-8x8.py'
# The same by DDPM++, at the size of ADM's network for the digits: 0.7 million parameters each.
model = dict(
    denoiser=dict(
        network=dict(
            _delete_=True,
            type='SongUNet',
            image_size=8,
            in_channels=1,
            out_channels=1,
            model_channels=32,
            channel_mult=(1, 2),
            num_res_blocks=1,
            attention_resolutions=(),
            dropout=0.0,
            num_classes=10,
        ),
    ),
)
