_base_ = './pd_8xb32-LSUN-bedroom-256x256.py'
data_root = 'data/lsun/cat'
train_dataloader = dict(dataset=dict(data_root=data_root))
model = dict(teacher=dict(checkpoint='edm_cat256_ema.pt'))
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
    paper=[dict(num_evaluations=1, fid=29.6, precision=0.51, recall=0.25)],
)
