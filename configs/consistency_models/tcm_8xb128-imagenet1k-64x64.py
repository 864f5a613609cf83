_base_ = './tcm-stage1_8xb256-imagenet1k-64x64.py'
# Truncated consistency models (arXiv:2410.14895), second stage, which there is of EDM2's network,
# too. The first stage comes before it:
#   python tools/train.py configs/consistency_models/tcm-stage1_8xb256-imagenet1k-64x64.py
model = dict(
    teacher=dict(checkpoint='work_dirs/tcm-stage1_8xb256-imagenet1k-64x64/iter_100000.pth'),
    init_from='teacher',
    objective=dict(
        _delete_=True,
        type='TruncatedConsistencyTraining',
        q=4.0,
        ratio_limit=0.9961,
        c=0.06,
        weighting='karras',
    ),
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=1024)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(decay_after=8000)
