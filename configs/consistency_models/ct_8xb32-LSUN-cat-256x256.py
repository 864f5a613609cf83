_base_ = './ct_8xb32-LSUN-bedroom-256x256.py'
data_root = 'data/lsun/cat'
train_dataloader = dict(dataset=dict(data_root=data_root))
model = dict(sampler=dict(ts=(0, 62, 150)))
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
    paper=[
        dict(num_evaluations=1, fid=20.7, precision=0.56, recall=0.23),
        dict(num_evaluations=2, fid=11.7, precision=0.63, recall=0.36),
    ],
)
