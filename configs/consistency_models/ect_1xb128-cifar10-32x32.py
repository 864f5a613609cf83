_base_ = [
    '../_base_/models/cifar10_ddpmpp_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/evaluation/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]
# Easy consistency tuning (arXiv:2406.14548) of EDM's network, as its code's run_ecm.sh has it: 25.6
# million images without flips, the gap halved after every 3.2 million. Its run of one hour on one
# GPU, 1 million images with the last gap at once (two steps: FID 2.73), is --cfg-options
#   model.objective.q=256 model.objective.num_stages=1 train_cfg.max_iters=8000
#   custom_hooks.1.rates='(0.9993,)'
model = dict(
    init_from='edm-cifar10-32x32-uncond-vp.pkl',
    objective=dict(type='EasyConsistencyTuning', q=2.0, num_stages=8, c=0.0),
    sampler=dict(type='MultistepSampler', sigmas=(80.0, 0.821)),
)
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=[dict(type='PackImage')]))
auto_scale_lr = dict(base_batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=200000)
test_evaluator = dict(
    paper=[
        dict(num_evaluations=1, fid=3.86),
        dict(num_evaluations=2, fid=2.15),
    ],
)
