_base_ = './ect_1xb96-digits-8x8.py'
# The same without class labels.
model = dict(denoiser=dict(network=dict(num_classes=None)))
# No accuracy without labels: pixels are compared with those of the training set.
test_dataloader = dict(dataset=dict(_delete_=True, type='SampleNumbers', num_samples=1400))
test_evaluator = dict(
    _delete_=True,
    type='GenerativeMetrics',
    names=('fid', 'precision', 'recall'),
    extractor='PixelFeatures',
    reference=dict(dataset=dict(type='DigitsDataset', split='train')),
    prefix='pixels',
)
