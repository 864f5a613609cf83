_base_ = ['../_base_/models/imagenet_64.py', '../_base_/default_runtime.py']
model = dict(sampler=dict(type='MultistepSampler', ts=(0, 22, 39), num_scales=40, _delete_=True))
load_from = 'cd_imagenet64_lpips.pt'
