# LSUN Bedroom at 256 x 256, no classes: 3,033,042 images, read from LSUN's own LMDB. Fetch it by
#   python tools/dataset_converters/lsun.py --download bedroom
data_root = 'data/lsun/bedroom_train_lmdb'
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(
        type='LSUN',
        data_root=data_root,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='CenterCrop', size=256, enlarge=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackImage'),
        ],
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=8 * 32)
