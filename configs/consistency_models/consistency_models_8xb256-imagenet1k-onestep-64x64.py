_base_ = ['../_base_/models/imagenet_64.py', '../_base_/default_runtime.py']
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_imagenet64_lpips.pt'
