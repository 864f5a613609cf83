_base_ = './ct_8xb32-LSUN-bedroom-256x256.py'
data_root = 'data/lsun/cat'
train_dataloader = dict(dataset=dict(data_root=data_root))
model = dict(sampler=dict(ts=(0, 62, 150)))
