_base_ = './cifar10_ddpmpp_32.py'
# NCSN++ (arXiv:2011.13456) as the paper's JAX code has it on CIFAR-10, unconditional: 56 million
# parameters. DDPM++ with another embedding, encoder and filter.
model = dict(
    denoiser=dict(
        parameterization='consistency',
        network=dict(
            dropout=0.0,
            channel_mult_noise=2,
            embedding='fourier',
            encoder='residual',
            resample_filter=(1, 3, 3, 1),
        ),
    ),
)
