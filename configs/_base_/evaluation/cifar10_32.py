# For tools/test.py: 50,000 images against the 50,000 of the training set, whose statistics are
# computed once. docs/evaluation.md says how to validate while a model trains.
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(type='SampleNumbers', num_samples=50000),
)
test_evaluator = dict(
    type='GenerativeMetrics',
    names=('fid', 'sfid', 'is', 'precision', 'recall'),
    reference=dict(
        dataset=dict(type='CIFAR10', split='train', data_root='data/cifar-10-batches-bin')
    ),
)
test_cfg = dict(type='TestLoop')
