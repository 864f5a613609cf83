_base_ = './cd-l2_8xb64-cifar10-32x32.py'
# With max-pooling at 224 pixels, as the LPIPS of the paper's JAX code has it.
model = dict(
    objective=dict(distance=dict(_delete_=True, type='lpips', pooling='max', resize=224)),
)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=3.55, inception_score=9.48),
        dict(num_evaluations=2, fid=2.93, inception_score=9.75),
    ],
)
