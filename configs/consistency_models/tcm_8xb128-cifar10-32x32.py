_base_ = './tcm-stage1_8xb64-cifar10-32x32.py'
# Truncated consistency models (arXiv:2410.14895), second stage: levels above 1 only. A run of its
# own, for batch and rate are others than in the first, which comes before it:
#   python tools/train.py configs/consistency_models/tcm-stage1_8xb64-cifar10-32x32.py
# The command of its code names no end; this is as many images as the first stage sees twice.
model = dict(
    teacher=dict(checkpoint='work_dirs/tcm-stage1_8xb64-cifar10-32x32/iter_250000.pth'),
    init_from='teacher',
    objective=dict(_delete_=True, type='TruncatedConsistencyTraining', c=1e-8),
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
optim_wrapper = dict(optimizer=dict(lr=5e-5))
train_cfg = dict(max_iters=250000)
test_evaluator = dict(paper=[dict(num_evaluations=1, fid=2.46), dict(num_evaluations=2, fid=2.05)])
