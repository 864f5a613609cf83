# The handwritten digits that ship with scikit-learn. No flips: a mirrored 3 is no digit.
train_dataloader = dict(
    batch_size=96,
    num_workers=0,
    sampler=dict(type='ResumableSampler', shuffle=True),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(type='DigitsDataset', split='train', pipeline=[dict(type='PackImage')]),
)
auto_scale_lr = dict(enable=False, base_batch_size=96)
# To judge a model, draw one digit for each label of the training set.
test_dataloader = dict(
    batch_size=350,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(type='DigitsDataset', split='train', pipeline=[dict(type='PackImage')]),
)
test_evaluator = dict(type='DigitsMetric')
test_cfg = dict(type='TestLoop')
