_base_ = './cd-l2_8xb32-LSUN-bedroom-256x256.py'
# At 256 pixels LPIPS resizes nothing. With average-pooling, as in the paper's code.
model = dict(
    objective=dict(distance=dict(_delete_=True, type='lpips', pooling='avg')),
    sampler=dict(ts=(0, 17, 39)),
)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=7.80, precision=0.66, recall=0.34),
        dict(num_evaluations=2, fid=5.22, precision=0.68, recall=0.39),
    ],
)
