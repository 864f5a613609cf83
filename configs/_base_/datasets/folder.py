# Any folder of pictures of any size: --cfg-options data_root=FOLDER. Sub-folders are classes.
data_root = None
# Of the network: that of the folder. None: learn without classes.
num_classes = 'auto'
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(
        type='ImageFolder',
        data_root=data_root,
        labels='auto',
        # Broken files and those with a side below 64 pixels are left out, and named in the log.
        bad_images='skip',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='CenterCrop', size=64),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackImage'),
        ],
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
