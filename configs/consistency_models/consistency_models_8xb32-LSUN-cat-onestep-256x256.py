_base_ = ['../_base_/models/lsun_256.py', '../_base_/default_runtime.py']
model = dict(sampler=dict(type='OnestepSampler'))
load_from = 'cd_cat256_lpips.pt'
