default_scope = 'mmagic_cm'
custom_imports = dict(imports=['mmagic_cm'], allow_failed_imports=False)

log_interval = 50
default_hooks = dict(
    runtime_info=dict(type='TrainingInfoHook'),
    run_summary=dict(type='RunSummaryHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=log_interval, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=3),
)
log_processor = dict(
    type='LogProcessor',
    by_epoch=False,
    # TrainingInfoHook has already averaged over the interval.
    window_size=1,
    custom_cfg=[dict(data_src='time', method_name='mean', window_size=log_interval)],
)
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=False
)
randomness = dict(seed=0)
log_level = 'INFO'
load_from = None
resume = False
