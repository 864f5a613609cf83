# For tools/test.py: 50,000 images against ADM's statistics of LSUN Bedroom, with which the paper's
# figures were computed. docs/evaluation.md says where they are, and how to validate while a model
# trains. The leaves of LSUN Cat name those of Cat.
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(type='SampleNumbers', num_samples=50000),
)
test_evaluator = dict(
    type='GenerativeMetrics',
    names=('fid', 'sfid', 'precision', 'recall'),
    reference='data/statistics/VIRTUAL_lsun_bedroom256.npz',
)
test_cfg = dict(type='TestLoop')
