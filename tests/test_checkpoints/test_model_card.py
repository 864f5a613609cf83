"""What a model card says."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from mmagic_cm.checkpoints.conversion import read_source
from mmagic_cm.checkpoints.model_card import model_card


def test_a_released_model_s(recorded):
    source = recorded('cond').source()
    card = model_card(source, 'x/cd-0a1b2c3d.safetensors', {})
    assert '\n# cd-0a1b2c3d\n' in card
    for part in (
        '16 x 16 pictures, conditional on 10 classes',
        f'{sum(t.numel() for t in source.weights.values()):,} parameters',
        'in the consistency parameterization',
        "init_model('cd-0a1b2c3d.safetensors')",
        '`MultistepSampler(ts=(0, 22, 39), num_scales=40)`',
        'The checkpoint does not say.',
        'None were given.',
        '## Intended use',
        '## Limitations',
    ):
        assert part in card, part
    caveat = card[card.index('## Metrics') : card.index('## Intended')]
    assert all(name in caveat for name in ('LPIPS', 'Inception', 'ImageNet'))


def test_a_run_s(written, recorded):
    source = read_source(written('training', 'uncond'))
    source.config.merge_from_dict(
        dict(
            model=dict(
                objective=dict(type='ConsistencyDistillation', distance='lpips'),
                teacher=dict(checkpoint='/home/me/edm.pth'),
                init_from='/home/me/start.pth',
            ),
            train_dataloader=dict(batch_size=96, dataset=dict(type='LSUN', data_root='/data')),
            optim_wrapper=dict(optimizer=dict(type='RAdam', lr=1e-4)),
        )
    )
    card = model_card(source, 'x.pth', dict(FID=3.2, recall='0.6'))
    for part in (
        '16 x 16 pictures, unconditional',
        '`LSUN` of mmagic-cm.',
        "- Objective: `ConsistencyDistillation(distance='lpips')`.",
        '- Distilled from: edm.pth.',
        '- Started from: start.pth.',
        '- Length: 100 batches of 96 pictures a process.',
        '- Optimizer: `RAdam(lr=0.0001)`.',
        '- Weights: the exponential moving average of rate 0.9999.',
        '| metric | value |\n|---|---|\n| FID | 3.2 |\n| recall | 0.6 |',
    ):
        assert part in card, part
    assert '/home' not in card  # nothing of the machine
    assert '/data' not in card
    assert 'LSUN bedrooms' in model_card(source, 'x.pth', {}, 'LSUN bedrooms')


@pytest.mark.parametrize('license', ['unknown', 'mit', 'cc: by # 4.0'])
def test_the_hub_reads_its_head(license, recorded):
    card = ModelCard(model_card(recorded('cond').source(), 'x.pth', {}, license=license))
    assert card.data.to_dict() == dict(
        license=license,
        library_name='mmagic-cm',
        pipeline_tag='unconditional-image-generation',
        tags=['consistency-models', 'image-generation', 'mmagic-cm'],
    )


def test_the_licence_of_a_released_model_goes_on(recorded):
    source = recorded('cond').source()
    source.path = Path('weights/edm-cifar10-32x32-cond-vp.pkl')
    assert ModelCard(model_card(source, 'x.pth', {})).data.license == 'cc-by-nc-sa-4.0'


def test_the_card_of_a_folder_for_diffusers(recorded):
    source = recorded('cond', 'edm').source()
    card = model_card(source, 'x/cd', {}, pipeline=source.pipeline_settings())
    assert ModelCard(card).data.library_name == 'diffusers'
    assert "ConsistencyModelPipeline.from_pretrained('cd')" in card
    # Of a grid down to 0, 1319 is what 22 of 40 is of ours.
    assert card.count('num_inference_steps=None, timesteps=[1319, 0]') == 2
