_base_ = './cd-l2_1xb96-digits-8x8.py'
# At 32 px: at the paper's 224 a VGG16 would take minutes a step on two CPU cores.
model = dict(
    objective=dict(distance=dict(_delete_=True, type='lpips', pooling='avg', resize=32)),
)
