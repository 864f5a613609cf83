_base_ = ['../_base_/models/lsun_256.py', '../_base_/default_runtime.py']
model = dict(sampler=dict(type='MultistepSampler', ts=(0, 62, 150), num_scales=151, _delete_=True))
load_from = 'ct_cat256.pt'
