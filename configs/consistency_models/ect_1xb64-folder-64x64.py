_base_ = [
    '../_base_/models/folder_64.py',
    '../_base_/datasets/folder.py',
    '../_base_/schedules/folder.py',
]
# Your own pictures, on one GPU:
#   python tools/train.py configs/consistency_models/ect_1xb64-folder-64x64.py \
#       --cfg-options data_root=FOLDER
# Half of the run is diffusion pre-training; easy consistency tuning (arXiv:2406.14548) makes of it
# a model that draws in one step, by its recipe for ImageNet-64.
model = dict(
    objective=dict(
        type='StagedObjective',
        stages=[
            (0.5, dict(type='DenoisingScoreMatching')),
            (
                1.0,
                dict(
                    type='EasyConsistencyTuning',
                    q=4.0,
                    num_stages=4,
                    c=0.06,
                    p_mean=-0.8,
                    p_std=1.6,
                    weighting='karras',
                ),
            ),
        ],
    ),
)
