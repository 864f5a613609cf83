_base_ = './edm_8xb32-LSUN-bedroom-256x256.py'
data_root = 'data/lsun/cat'
train_dataloader = dict(dataset=dict(data_root=data_root))
test_evaluator = dict(
    reference='data/statistics/VIRTUAL_lsun_cat256.npz',
    paper=[dict(num_evaluations=79, fid=6.69, precision=0.70, recall=0.43)],
)
