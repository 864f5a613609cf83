# For tools/test.py: 50,000 images of random classes against ADM's statistics of ImageNet-64, with
# which the paper's figures were computed. docs/evaluation.md says where they are, and how to
# validate while a model trains.
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(type='SampleNumbers', num_samples=50000, num_classes=1000),
)
test_evaluator = dict(
    type='GenerativeMetrics',
    names=('fid', 'sfid', 'is', 'precision', 'recall'),
    reference='data/statistics/VIRTUAL_imagenet64_labeled.npz',
)
test_cfg = dict(type='TestLoop')
