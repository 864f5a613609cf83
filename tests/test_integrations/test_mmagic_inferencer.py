"""MMagic 1.2.0's real MMagicInferencer, with our models in it."""

import importlib.util
import re
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine import Config, DefaultScope
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmagic_cm.apis import generate, init_model
from mmagic_cm.editing import edit_pictures
from mmagic_cm.errors import InputError
from mmagic_cm.integrations.consistency_inferencer import MODEL_NAME, ConsistencyInferencer
from mmagic_cm.integrations.mmagic_inferencer import TASK, _enter, register_into_mmagic

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, build_model, tiny_config):
    """Configs and checkpoints of networks with random weights, which depend on their labels."""
    folder = tmp_path_factory.mktemp('mmagic')
    scope = dict(imports=['mmagic_cm'], allow_failed_imports=False)
    onestep = dict(type='OnestepSampler')
    multistep = dict(type='MultistepSampler', ts=(0, 5, 10), num_scales=11)
    for name, network, sampler in [
        ('digits', {}, onestep),
        ('multistep', {}, multistep),
        ('plain', dict(num_classes=None), onestep),
        ('colour', dict(num_classes=None, in_channels=3, out_channels=3), onestep),
    ]:
        model = tiny_config(network, sampler=sampler)
        cfg = Config(dict(custom_imports=scope, default_scope='mmagic_cm', model=model))
        cfg.dump(folder / f'{name}.py')
        torch.save(build_model(network).state_dict(), folder / f'{name}.pth')
    return folder


def two_lines() -> str:
    """What the README says that a user's program begins with."""
    text = (ROOT / 'README.md').read_text()
    return re.search(r'<!-- needs: mmagic -->\n```python\n(.*?)```', text, re.S)[1]


@pytest.fixture(scope='module')
def mmagic():
    """The real class; the default scope that it leaves behind ends with this module."""
    scopes = dict(DefaultScope._instance_dict)
    exec(two_lines(), {})
    from mmagic.apis import MMagicInferencer

    yield MMagicInferencer
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(scope='module')
def build(mmagic, folder):
    def build(name='digits', **kwargs):
        return mmagic(
            model_name='consistency_models',
            model_config=str(folder / f'{name}.py'),
            model_ckpt=str(folder / f'{name}.pth'),
            device='cpu',
            **kwargs,
        )

    return build


@pytest.fixture(scope='module')
def editor(build):
    return build()


@pytest.fixture(scope='module')
def biggan(mmagic, tmp_path_factory):
    """MMagic's own BigGAN, small; an empty name of a checkpoint downloads none."""
    config = tmp_path_factory.mktemp('biggan') / 'biggan.py'
    config.write_text("""
model = dict(
    type='BigGAN', num_classes=10,
    data_preprocessor=dict(type='DataPreprocessor', output_channel_order='BGR'),
    generator=dict(
        type='BigGANGenerator', output_scale=32, noise_size=8, num_classes=10, base_channels=4,
        with_shared_embedding=False, split_noise=False, auto_sync_bn=False))
""")
    return mmagic('biggan', model_config=str(config), model_ckpt='', device='cpu')


def infer(editor, **kwargs):
    """All images of a call as our API gives them: uint8 (N, H, W, 3) RGB."""
    _, images = editor.infer(**kwargs)
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def ours(folder, num_samples=4, name='digits', **kwargs):
    model = init_model(str(folder / f'{name}.py'), str(folder / f'{name}.pth'), 'cpu')
    images, labels = generate(model, num_samples, **kwargs)
    return np.broadcast_to(images, (*images.shape[:3], 3)), labels


def test_label_zero_is_not_random(editor, folder):
    zeros = infer(editor, label=0)
    assert np.array_equal(zeros, ours(folder, labels=0, seed=2022)[0])
    assert np.array_equal(zeros, infer(editor, label=0))
    assert not np.array_equal(zeros, infer(editor, label=1))


def test_result_has_the_form_of_mmagic(editor):
    result, images = editor.infer(label=3)
    assert result['fake_img'].shape == (3, 8, 8)
    assert result['fake_img'].max() > 1
    assert result['gt_label'].tolist() == [3]
    assert images.shape == (4, 3, 8, 8)
    assert 0 <= images.min() <= images.max() <= 1

    samples, _ = editor.infer(label=[3, 5], get_datasample=True, is_batch=True)
    assert [sample.gt_label.label.item() for sample in samples] == [3, 5]
    assert {type(sample).__module__ for sample in samples} == {'mmagic.structures.data_sample'}


@pytest.mark.parametrize('kind', [list, tuple, np.array, torch.tensor])
def test_list_of_labels_is_one_image_each(editor, folder, kind):
    expected, _ = ours(folder, 3, labels=[7, 0, 7], seed=2022)
    assert np.array_equal(infer(editor, label=kind([7, 0, 7])), expected)


def test_without_a_label_classes_are_random_and_seeded(editor):
    def labels(**kwargs):
        results, _ = editor.infer(is_batch=True, extra_parameters=dict(num_batches=16), **kwargs)
        return [result['gt_label'].item() for result in results]

    assert labels() == labels()
    assert labels() != labels(seed=1)
    assert len(set(labels())) > 1


def test_unconditional_model_needs_no_label(build, folder):
    editor = build('plain')
    result, _ = editor.infer()
    assert 'gt_label' not in result
    assert np.array_equal(infer(editor), ours(folder, name='plain', seed=2022)[0])
    with pytest.raises(InputError, match='label'):
        editor.infer(label=0)


def test_fake_img_is_bgr_and_the_picture_rgb(build, folder, tmp_path):
    # A network that says (red, green, blue) = (+, 0, -) wherever it looks: c_out = 0.5 at sigma 80.
    model = init_model(str(folder / 'colour.py'), device='cpu')
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.zero_()
        list(model.denoiser.parameters())[-1].copy_(torch.tensor([4.0, 0.0, -4.0]))
    ckpt = tmp_path / 'red.pth'
    torch.save(dict(state_dict=model.state_dict()), ckpt)
    editor = type(build('plain'))(
        MODEL_NAME, model_config=str(folder / 'colour.py'), model_ckpt=str(ckpt), device='cpu'
    )
    result, images = editor.infer(result_out_dir=str(tmp_path / 'red.png'))
    blue, green, red = (channel.float().mean().item() for channel in result['fake_img'])
    assert blue == 0
    assert green == pytest.approx(127.5, abs=2)
    assert red == 255
    assert images[:, 0].min() == 1
    assert images[:, 2].max() == 0
    picture = np.asarray(Image.open(tmp_path / 'red.png').convert('RGB')).reshape(-1, 3)
    assert (picture[:, 0] == 255).any()
    assert not (picture[:, 2] == 255).any()


@pytest.mark.parametrize('name', ['out.png', 'new/folder/out.jpg'])
def test_one_grid_is_written_and_folders_are_made(editor, tmp_path, name):
    editor.infer(label=0, result_out_dir=str(tmp_path / name))
    width, height = Image.open(tmp_path / name).size
    assert width > 4 * height / 2 > 32  # four in a row, enlarged


def test_samplers(editor, folder):
    def drawn(**extra):
        return infer(editor, label=2, extra_parameters=extra)

    def expected(sampler, seed=2022):
        return ours(folder, labels=2, sampler=sampler, seed=seed)[0]

    multistep = dict(type='MultistepSampler', ts=(0, 5, 10), num_scales=11)
    for name in ('multistep', 'MultistepSampler', None):
        extra = dict(ts=[0, 5, 10], num_scales=11)
        assert np.array_equal(
            drawn(**extra, **(dict(sampler=name) if name else {})), expected(multistep)
        )
    heun = dict(type='HeunSampler', num_steps=3)
    assert np.array_equal(drawn(sampler=heun), expected(heun))
    assert np.array_equal(drawn(sampler='onestep', seed=5), expected('OnestepSampler', 5))
    for name in ('heun', 'euler', 'dpm2', 'euler_ancestral', 'progressive'):
        assert drawn(sampler=dict(type=name, num_steps=2)).shape == (4, 8, 8, 3)
    assert not np.array_equal(drawn(), expected(multistep))


def test_a_picture_is_edited(editor, folder, tmp_path):
    picture = Image.new('RGB', (8, 8), (200, 200, 200))
    picture.save(tmp_path / 'gray.png')
    extra = dict(task='denoising', sigma=0.5, num_batches=2, seed=5)
    found = infer(editor, img=str(tmp_path / 'gray.png'), label=3, extra_parameters=extra)
    model = init_model(str(folder / 'digits.py'), str(folder / 'digits.pth'), 'cpu')
    settings = dict(sigma=0.5, num_candidates=2, seed=5, labels=3)
    (expected,) = edit_pictures(model, 'denoising', [picture], **settings)
    assert np.array_equal(found, np.broadcast_to(expected.candidates, found.shape))


def test_ts_counts_the_levels_of_the_config(build, folder):
    editor = build('multistep', extra_parameters=dict(ts=(0, 2, 10)))
    sampler = dict(type='MultistepSampler', ts=(0, 2, 10), num_scales=11)
    expected, _ = ours(folder, labels=2, sampler=sampler, name='multistep', seed=2022)
    assert np.array_equal(infer(editor, label=2), expected)
    # Its name alone is the config's own sampler, and ends the editor's ts for this call.
    own, _ = ours(folder, labels=2, name='multistep', seed=2022)
    assert np.array_equal(infer(editor, label=2, extra_parameters=dict(sampler='multistep')), own)
    assert not np.array_equal(own, expected)


def test_without_a_checkpoint_it_is_the_config_s_own_or_a_warning(mmagic, editor, folder, tmp_path):
    config = tmp_path / 'own.py'
    weights = folder / 'digits.pth'
    config.write_text((folder / 'digits.py').read_text() + f'load_from = {str(weights)!r}')
    own = mmagic(model_name=MODEL_NAME, model_config=str(config), device='cpu')
    assert np.array_equal(infer(own, label=0), infer(editor, label=0))
    with pytest.warns(UserWarning, match='fresh'):
        mmagic(model_name=MODEL_NAME, model_config=str(folder / 'digits.py'), device='cpu')


def test_a_released_checkpoint_by_its_name(mmagic, editor, folder, tmp_path, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    config = tmp_path / 'own.py'
    config.write_text((folder / 'digits.py').read_text() + "load_from = 'ct_cat256.pt'")
    kwargs = dict(model_name=MODEL_NAME, model_config=str(config), device='cpu')
    with pytest.raises(InputError, match=r'http.*ct_cat256'):
        mmagic(**kwargs)
    (tmp_path / 'ct_cat256.pt').write_bytes((folder / 'digits.pth').read_bytes())
    assert np.array_equal(infer(mmagic(**kwargs), label=0), infer(editor, label=0))
    with pytest.raises(InputError, match=r'http.*cd_imagenet64_l2\.pt'):
        mmagic(**{**kwargs, 'model_config': 'cd_imagenet64_l2'})


@pytest.mark.parametrize('flag', ['model_config', 'model_ckpt'])
def test_a_released_name_or_a_file_that_says_what_it_is_of_is_enough(
    flag, mmagic, data, tmp_path, monkeypatch
):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    name = 'edm-cifar10-32x32-uncond-vp'
    file = shutil.copy(data / 'goldens/edm_pickle_tiny_ddpmpp.pkl', tmp_path / f'{name}.pkl')
    kwargs = dict(model_name=MODEL_NAME, device='cpu')
    with pytest.raises(InputError, match='does not fit'):  # the network of that name is larger
        mmagic(**kwargs, **{flag: name})
    own = dict(num_batches=2, seed=3)
    _, found = mmagic(**kwargs, **{flag: str(file)}, extra_parameters=own).infer()
    expected, _ = generate(init_model(file, device='cpu'), 2, seed=3)
    assert np.array_equal((found * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected)


def test_extra_parameters_leak_nowhere(build, editor, biggan):
    before = infer(editor, label=0)
    other = build(extra_parameters=dict(num_batches=2, seed=9))
    assert len(infer(other, label=0)) == 2
    assert len(infer(other, label=0, extra_parameters=dict(num_batches=1))) == 1
    assert len(infer(other, label=0)) == 2
    levels = dict(ts=(0, 22, 39), num_scales=40)
    editor.infer(label=0, extra_parameters=dict(num_batches=1, seed=3, **levels))
    assert np.array_equal(infer(editor, label=0), before)
    assert biggan.inferencer.inferencer.extra_parameters['num_batches'] == 4
    # The seed: of the call's parameters, of the call, of the editor's parameters, of the editor.
    assert np.array_equal(
        infer(other, label=0), infer(editor, label=0, extra_parameters=dict(seed=9))[:2]
    )
    assert np.array_equal(infer(other, label=0, seed=4), infer(build(seed=4), label=0)[:2])


def test_models_of_mmagic_keep_their_inferencers(mmagic, biggan, editor):
    from mmagic.apis.inferencers import ConditionalInferencer, Inferencers

    assert type(editor.inferencer) is Inferencers
    assert type(editor.inferencer.inferencer) is ConsistencyInferencer
    assert type(biggan.inferencer.inferencer) is ConditionalInferencer
    assert type(biggan.inferencer.inferencer.model).__module__.startswith('mmagic.models.editors')
    result, images = biggan.infer(label=1)
    assert result['fake_img'].shape == (3, 32, 32)
    assert images.shape == (4, 3, 32, 32)
    assert mmagic.get_task_supported_models(TASK) == [MODEL_NAME]
    assert 'biggan' in mmagic.get_task_supported_models('Conditional GANs')
    with pytest.raises(ValueError, match='bigan'):
        mmagic('bigan')


def test_our_api_works_after_mmagic(editor, folder):
    assert DefaultScope.get_current_instance().scope_name == 'mmagic'
    heun = dict(type='HeunSampler', num_steps=2)
    images, labels = ours(folder, 3, labels=[1, 2, 3], sampler=heun)
    assert images.shape == (3, 8, 8, 3)
    assert labels.tolist() == [1, 2, 3]


def test_metrics_of_mmagic_on_its_data(mmagic, tmp_path, fill):
    for i in range(8):
        path = tmp_path / 'data' / str(i % 2) / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    network = dict(type='ADMUNet', image_size=16, model_channels=32, num_res_blocks=1)
    network |= dict(channel_mult=(1,), attention_resolutions=(), num_classes=2)
    denoiser = dict(type='KarrasDenoiser', parameterization='consistency', network=network)
    figures = {}

    class Reader(Hook):
        def after_test_epoch(self, runner, metrics=None):
            figures.update(metrics)

    runner = Runner(
        model=dict(type='ConsistencyModel', _scope_='mmagic_cm', denoiser=denoiser),
        work_dir=str(tmp_path),
        test_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='BasicConditionalDataset',
                data_root=str(tmp_path / 'data'),
                pipeline=[dict(type='LoadImageFromFile', key='gt'), dict(type='PackInputs')],
            ),
        ),
        test_cfg=dict(type='MultiTestLoop'),
        test_evaluator=[
            dict(type='SWD', fake_nums=8, image_shape=(3, 16, 16), prefix='swd'),
            dict(type='MS_SSIM', fake_nums=8, prefix='ms-ssim'),
        ],
        custom_hooks=[Reader()],
        default_scope='mmagic',
        log_level='ERROR',
    )
    fill(runner.model.denoiser.network)
    runner.test()
    assert figures['swd/avg'] > 0
    assert 0 <= figures['ms-ssim/avg'] <= 1


def test_registering_again_changes_nothing(mmagic):
    from mmagic.apis.inferencers import Inferencers

    before = (mmagic._get_inferencer_kwargs, Inferencers.__init__, sys.modules.get('mmcv._ext'))
    register_into_mmagic()
    after = (mmagic._get_inferencer_kwargs, Inferencers.__init__, sys.modules.get('mmcv._ext'))
    assert before == after
    assert mmagic.inference_supported_models.count(MODEL_NAME) == 1


def test_mmagic_may_read_its_metafiles_again(mmagic):
    # As its own tests have it, after which ours would be looked for in its tree.
    mmagic.inference_supported_models_cfg_inited = False
    mmagic.inference_supported_models_cfg.clear()
    assert TASK in mmagic.get_inference_supported_tasks()
    assert mmagic.inference_supported_models_cfg['biggan']['task'] == 'Conditional GANs'
    assert len(mmagic.inference_supported_models_cfg[MODEL_NAME]['settings']) == 8


def test_a_mmagic_that_has_the_name_already_is_taken_over_and_told():
    class Fork:
        inference_supported_models = ('biggan', MODEL_NAME)
        inference_supported_models_cfg: ClassVar = {}

        @staticmethod
        def init_inference_supported_models_cfg():
            for name in Fork.inference_supported_models:
                Fork.inference_supported_models_cfg[name] = dict(task='conditional')

        def _get_inferencer_kwargs(self, *args):
            return dict(task='conditional')

    class Inferencers:
        def __init__(self, **kwargs):
            raise AssertionError('the port would unpickle the checkpoint')

    with pytest.warns(UserWarning, match=f"'{MODEL_NAME}' of its own"):
        _enter(Fork, Inferencers)
    kinds = {name: entry['task'] for name, entry in Fork.inference_supported_models_cfg.items()}
    assert kinds == {'biggan': 'conditional', MODEL_NAME: TASK}
    kwargs = Fork()._get_inferencer_kwargs(MODEL_NAME, None, None, 'nowhere.py', 'x.pth', None)
    with pytest.raises(InputError, match=r'nowhere\.py'):
        Inferencers(**kwargs)


@pytest.mark.slow
def test_demo_of_mmagic_with_the_two_lines(mmagic, folder, editor, tmp_path, monkeypatch):
    import mmagic as package

    demo = Path(package.__file__).parent / '.mim/demo/mmagic_inference_demo.py'
    out = tmp_path / 'zeros.png'
    command = f'--model-name {MODEL_NAME} --model-config {folder / "digits.py"} --model-ckpt '
    command += f'{folder / "digits.pth"} --label 0 --device cpu --result-out-dir {out}'
    monkeypatch.setattr(sys, 'argv', [str(demo), *command.split()])
    exec(compile(two_lines() + demo.read_text(), demo, 'exec'), {'__name__': '__main__'})
    editor.infer(label=0, result_out_dir=str(tmp_path / 'expected.png'))
    assert out.read_bytes() == (tmp_path / 'expected.png').read_bytes()


@pytest.mark.skipif(
    importlib.util.find_spec('mmcv._ext') is not None, reason='the compiled mmcv is installed'
)
def test_missing_operation_says_so_when_it_is_called(mmagic):
    from mmcv.ops import nms

    with pytest.raises(RuntimeError, match='nms'):
        nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)


def test_compiled_mmcv_is_not_replaced(mmagic, monkeypatch):
    compiled = type(sys)('mmcv._ext')
    compiled.__spec__ = ModuleSpec('mmcv._ext', loader=None)
    monkeypatch.setitem(sys.modules, 'mmcv._ext', compiled)
    register_into_mmagic()
    assert sys.modules['mmcv._ext'] is compiled


@pytest.mark.parametrize(
    ('kwargs', 'sentence'),
    [
        (dict(label=10), '10'),
        (dict(label=[0, 1], extra_parameters=dict(num_batches=3)), '3'),
        (dict(label=0, extra_parameters=dict(num_batch=3)), "'num_batches'"),
        (dict(label=0, extra_parameters=dict(num_batches=0)), 'num_batches'),
        (dict(label=0, extra_parameters=dict(num_batches='four')), "'four'"),
        (dict(label=0, extra_parameters=dict(ts='0,22,39')), "'0,22,39'"),
        (dict(labels=0), "'label'"),
        (dict(label=0, img='cat.png'), "'img'"),
    ],
)
def test_bad_input_is_one_sentence(editor, kwargs, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        editor.infer(**kwargs)
    assert '\n' not in str(caught.value)


def test_bad_construction_is_one_sentence(mmagic, tmp_path, monkeypatch):
    monkeypatch.setenv('MMAGIC_CM_CACHE', str(tmp_path))
    for kwargs, sentence in [
        ({}, 'model_config'),
        (dict(model_setting=8), 'model_setting 8'),
        (dict(model_setting=0), 'cd_imagenet64_lpips'),
        (dict(config_name='ct_cat256'), 'ct_cat256'),
        (dict(model_setting='ect'), 'ect'),
        (dict(model_config='ct_cat256', extra_parameters=dict(step=1)), "'step'"),
    ]:
        with pytest.raises(InputError, match=sentence):
            mmagic(model_name=MODEL_NAME, device='cpu', **kwargs)


@pytest.mark.slow
def test_demo_command(mmagic, folder, tmp_path, run_script):
    out = tmp_path / 'new' / 'zeros.png'
    command = (
        f'--model-config {folder / "digits.py"} --model-ckpt {folder / "digits.pth"} --label 0 '
    )
    command += f'--model-name {MODEL_NAME} --result-out-dir {out} --extra-parameters num_batches=3 '
    command += 'sampler=multistep ts=0,22,39 num_scales=40'
    code, said, error = run_script('demo/mmagic_inference_demo.py', *command.split())
    assert code == 0, error
    assert str(out) in said
    width, height = Image.open(out).size
    assert width > 2 * height


def test_without_mmagic_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmagic.apis', None)
    with pytest.raises(InputError, match='MMagic') as caught:
        register_into_mmagic()
    assert '\n' not in str(caught.value)
    file = re.search(r"pip install 'mmagic-cm\[mmagic\]' -c (\S+)", str(caught.value))[1]
    assert 'mediapipe==' in Path(file).read_text()


def test_nothing_imports_mmagic_unasked():
    for path in (ROOT / 'mmagic_cm').rglob('*.py'):
        assert not re.search(r'^(import|from) (mmagic|mmcv|diffusers)\b', path.read_text(), re.M)
