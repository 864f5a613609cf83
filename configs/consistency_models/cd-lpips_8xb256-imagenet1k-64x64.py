_base_ = './cd-l2_8xb256-imagenet1k-64x64.py'
# With average-pooling, as the LPIPS of the paper's code has it.
model = dict(objective=dict(distance=dict(_delete_=True, type='lpips', pooling='avg')))
