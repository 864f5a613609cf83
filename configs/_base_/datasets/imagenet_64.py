# ImageNet at 64 x 64, class-conditional: a folder for each of the 1,000 classes. Resize it once by
#   python tools/dataset_converters/imagenet.py ILSVRC2012/train --out data/imagenet/train_64
# The original JPEGs do, too (data_root=ILSVRC2012/train): the crop is the same, reading is slower.
data_root = 'data/imagenet/train_64'
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(
        type='ImageNet',
        data_root=data_root,
        pipeline=[
            dict(type='LoadImage'),
            # As in the paper's code, the few images that are smaller are enlarged.
            dict(type='CenterCrop', size=64, enlarge=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackImage'),
        ],
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=8 * 256)
