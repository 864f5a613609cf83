_base_ = './cd-l2_8xb32-LSUN-bedroom-256x256.py'
# At 256 pixels LPIPS resizes nothing. With average-pooling, as in the paper's code.
model = dict(
    objective=dict(distance=dict(_delete_=True, type='lpips', pooling='avg')),
    sampler=dict(ts=(0, 17, 39)),
)
