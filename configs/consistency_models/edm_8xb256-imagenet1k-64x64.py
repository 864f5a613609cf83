_base_ = [
    '../_base_/models/imagenet_64.py',
    '../_base_/datasets/imagenet_64.py',
    '../_base_/evaluation/imagenet_64.py',
    '../_base_/schedules/imagenet_64.py',
]
# The teacher: an EDM diffusion model. The paper gives its batch of 4096, two times 8 x 256, and not
# its length: this is that of EDM's own ImageNet-64 run, 2,500 million images.
model = dict(
    denoiser=dict(parameterization='edm', network=dict(dropout=0.1)),
    objective=dict(type='DenoisingScoreMatching', p_mean=-1.2, p_std=1.2, weighting='karras'),
    sampler=dict(type='HeunSampler', num_steps=40),
)
optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(max_iters=1220000)  # batches: 610,000 optimizer steps
test_evaluator = dict(paper=[dict(num_evaluations=79, fid=2.44, precision=0.71, recall=0.67)])
