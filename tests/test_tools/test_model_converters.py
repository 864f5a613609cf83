"""``tools/model_converters`` as users type them."""

import hashlib
import zipfile

import numpy as np
import pytest
import torch
from mmengine import Config

from mmagic_cm.apis import generate, init_model
from mmagic_cm.checkpoints import read_checkpoint

CONVERT = 'tools/model_converters/convert.py'
PUBLISH = 'tools/model_converters/publish_model.py'


@pytest.fixture(scope='module')
def files(tmp_path_factory, build_model, tiny_config):
    """A training checkpoint, its config, and the model of its longest EMA."""
    folder = tmp_path_factory.mktemp('files')
    network = dict(in_channels=3, out_channels=3)
    online, short, best = (build_model(network, seed=seed) for seed in (1, 2, 3))
    sampler = dict(type='MultistepSampler', ts=(0, 5, 10), num_scales=11)
    for name, parameterization in (('consistency', 'consistency'), ('edm', 'edm')):
        config = dict(model=tiny_config(network, parameterization, sampler=sampler))
        Config(config).dump(folder / f'{name}.py')
    emas = {'0.9': short.denoiser.state_dict(), '0.999': best.denoiser.state_dict()}
    meta = dict(iter=7, cfg=(folder / 'consistency.py').read_text())
    state = dict(state_dict=online.state_dict(), emas=emas, meta=meta)
    torch.save(dict(state, optimizer=dict(state={0: torch.ones(99)})), folder / 'iter_7.pth')
    return folder, best


def draw(config, checkpoint):
    return generate(init_model(config, checkpoint, 'cpu'), 3, labels=[1, 2, 3])[0]


def test_there_and_back_by_command(run_script, files, tmp_path):
    folder, best = files
    source, config = folder / 'iter_7.pth', folder / 'consistency.py'
    for out, layout, *more in (
        ('a.pt', 'openai'),
        ('b', 'diffusers', '--config', config),
        ('c.safetensors', 'ours'),
        ('d.pt', 'openai'),
    ):
        code, printed, error = run_script(
            CONVERT, source, '--to', layout, '--out', tmp_path / out, *more
        )
        assert code == 0, error
        assert printed.startswith(f'{tmp_path / out} is written')
        if layout == 'diffusers':
            call = 'pipeline(num_inference_steps=None, timesteps=[5, 0])'
            assert call in printed
            assert call in (tmp_path / out / 'README.md').read_text()
        source = tmp_path / out
    first, last = (torch.load(tmp_path / x, weights_only=True) for x in ('a.pt', 'd.pt'))
    expected = best.denoiser.network.state_dict()
    for name, weight in expected.items():
        assert torch.equal(first[name], weight)
        assert torch.equal(last[name], weight)
    pictures = [draw(config, tmp_path / x) for x in ('a.pt', 'b', 'c.safetensors')]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])


def test_which_ema(run_script, files, tmp_path):
    for ema in ('0.9', 'none'):
        args = ('--to', 'openai', '--ema', ema, '--out', tmp_path / 'x.pt')
        assert run_script(CONVERT, files[0] / 'iter_7.pth', *args)[0] == 0
        found = torch.load(tmp_path / 'x.pt', weights_only=True)['out.2.weight']
        checkpoint = torch.load(files[0] / 'iter_7.pth', weights_only=True)
        weights = checkpoint['state_dict'] if ema == 'none' else checkpoint['emas'][ema]
        name = 'denoiser.network.out.2.weight' if ema == 'none' else 'network.out.2.weight'
        assert torch.equal(found, weights[name])


def test_the_target_network(run_script, files, tmp_path):
    folder, best = files
    state = torch.load(folder / 'iter_7.pth', weights_only=True)
    weights = best.denoiser.state_dict().items()
    state['state_dict'] |= {f'target.{name}': weight + 1 for name, weight in weights}
    torch.save(state, tmp_path / 'run.pth')
    args = ('--ema', 'target')
    out = tmp_path / 'x.pt'
    assert run_script(CONVERT, tmp_path / 'run.pth', '--to', 'openai', '--out', out, *args)[0] == 0
    found = torch.load(out, weights_only=True)
    assert all(torch.equal(found[name.removeprefix('network.')], w + 1) for name, w in weights)
    assert run_script(PUBLISH, tmp_path / 'run.pth', tmp_path / 'card', *args)[0] == 0
    [card] = tmp_path.glob('card*.md')
    assert 'Weights: the target network.' in card.read_text()


def test_what_convert_refuses(refusal, files, tmp_path):
    source = files[0] / 'iter_7.pth'
    assert 'x.pt' in refusal(CONVERT, source, '--to', 'ours', '--out', tmp_path / 'x.pt')
    other = tmp_path / 'x.safetensors'
    assert other.name in refusal(CONVERT, source, '--to', 'openai', '--out', other)
    assert [*tmp_path.iterdir()] == []


def deflate(path, content):
    """The same file, with its parts packed: 100 times smaller than what it holds."""
    torch.save(content, path)
    with zipfile.ZipFile(path) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed:
        for name, part in parts.items():
            packed.writestr(name, part)


@pytest.mark.parametrize(
    ('save', 'tensor'),
    [
        (lambda path, content: torch.save(content, path), torch.zeros(1).expand(10**12)),
        (deflate, torch.zeros(10**6)),
    ],
    ids=['a tensor that repeats one number', 'a deflate bomb'],
)
def test_convert_takes_no_more_than_the_file_holds(save, tensor, refusal, tmp_path):
    source = tmp_path / 'bomb.pt'
    save(source, {'input_blocks.0.0.weight': tensor})
    assert 'bomb.pt' in refusal(CONVERT, source, '--to', 'openai', '--out', tmp_path / 'x.pt')
    assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize('to', ['diffusers', 'openai'])
def test_null_class_has_no_place_elsewhere(to, refusal, tmp_path, tiny_config, build_model):
    Config(dict(model=tiny_config(dict(null_class=True)))).dump(tmp_path / 'x.py')
    torch.save(build_model(dict(null_class=True)).state_dict(), tmp_path / 'x.pth')
    args = ('--to', to, '--out', tmp_path / 'y.pt', '--config', tmp_path / 'x.py')
    assert 'null_class' in refusal(CONVERT, tmp_path / 'x.pth', *args)


@pytest.mark.parametrize(
    ('out', 'more', 'name'),
    [
        ('model-v1.5', (), 'model-v1.5-{}.safetensors'),
        ('model.pth', (), 'model-{}.pth'),
        ('cm.pth.pth', (), 'cm.pth-{}.pth'),  # stock publish_model strips characters, not suffixes
        ('http', ('--format', 'pth'), 'http-{}.pth'),
        ('new/folder/model', (), 'new/folder/model-{}.safetensors'),
    ],
)
def test_publish(out, more, name, run_script, files, tmp_path):
    folder, best = files
    source = folder / 'iter_7.pth'
    code, printed, error = run_script(
        PUBLISH, source, tmp_path / out, *more, '--metrics', 'FID=3.2'
    )
    assert code == 0, error
    (path,) = tmp_path.rglob('*-*[0-9a-f].[ps]*')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert str(path.relative_to(tmp_path)) == name.format(digest)
    card = path.with_name(f'{path.stem}.md')
    assert printed == f'{path} and {card.name} are written\n'
    assert '| FID | 3.2 |' in card.read_text()
    assert {p for p in tmp_path.rglob('*') if p.is_file()} == {path, card}
    checkpoint = read_checkpoint(path)
    assert checkpoint.keys() == {'state_dict', 'meta'}
    weights = checkpoint['state_dict']
    expected = best.denoiser.network.state_dict()
    assert weights.keys() == {f'denoiser.network.{key}' for key in expected}
    assert all(torch.equal(weights[f'denoiser.network.{key}'], expected[key]) for key in expected)
    # The file alone is enough.
    assert np.array_equal(draw(path, 'auto'), draw(folder / 'consistency.py', source))


def test_publish_onto_itself(run_script, files, tmp_path):
    source = tmp_path / 'x.pth'
    source.write_bytes((files[0] / 'iter_7.pth').read_bytes())
    assert run_script(PUBLISH, source, source)[0] == 0
    assert source.read_bytes() == (files[0] / 'iter_7.pth').read_bytes()
    assert len([*tmp_path.glob('x-*.pth')]) == 1


def test_what_publish_refuses(refusal, files, tmp_path):
    source = files[0] / 'iter_7.pth'
    assert 'x.pt' in refusal(PUBLISH, source, tmp_path / 'x.pt')
    assert 'x.pth' in refusal(PUBLISH, source, tmp_path / 'x.pth', '--format', 'safetensors')
    assert '0.5' in refusal(PUBLISH, source, tmp_path / 'x', '--ema', '0.5')
    assert [*tmp_path.iterdir()] == []


def test_raw_weights_need_a_config(run_script, refusal, files, tmp_path):
    folder, best = files
    source, out = tmp_path / 'ema.pt', tmp_path / 'x'
    torch.save(best.denoiser.network.state_dict(), source)
    assert '--config' in refusal(PUBLISH, source, out)
    assert run_script(PUBLISH, source, out, '--config', folder / 'consistency.py')[0] == 0
