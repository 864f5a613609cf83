_base_ = './cd-l2_8xb256-imagenet1k-64x64.py'
# With average-pooling, as the LPIPS of the paper's code has it.
model = dict(objective=dict(distance=dict(_delete_=True, type='lpips', pooling='avg')))
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=6.20, precision=0.68, recall=0.63),
        dict(num_evaluations=2, fid=4.70, precision=0.69, recall=0.64),
    ],
)
