_base_ = ['../_base_/models/lsun_256.py', '../_base_/default_runtime.py']
model = dict(sampler=dict(type='MultistepSampler', ts=(0, 17, 39), num_scales=40, _delete_=True))
load_from = 'cd_bedroom256_lpips.pt'
