_base_ = './ect_1xb96-digits-8x8.py'
# The same without class labels.
model = dict(denoiser=dict(network=dict(num_classes=None)))
# No accuracy without labels.
test_dataloader = test_evaluator = test_cfg = None
