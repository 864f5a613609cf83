# CIFAR-10, ten classes. Unpack its binary version (cifar-10-binary.tar.gz) into data/.
data_root = 'data/cifar-10-batches-bin'
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    pin_memory=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    collate_fn=dict(type='mmagic_cm.collate'),
    dataset=dict(
        type='CIFAR10',
        split='train',
        data_root=data_root,
        pipeline=[dict(type='RandomFlip', prob=0.5), dict(type='PackImage')],
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=512)
