_base_ = './ect_8xb32-LSUN-bedroom-256x256.py'
data_root = 'data/lsun/cat'
train_dataloader = dict(dataset=dict(data_root=data_root))
model = dict(init_from='edm_cat256_ema.pt')
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
)
