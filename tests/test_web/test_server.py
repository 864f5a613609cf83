"""The page over the network: its API, and what it keeps to itself."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio_client
import httpx
import numpy as np
import pytest
from PIL import Image

from mmagic_cm.apis import generate, init_model
from mmagic_cm.datasets.digits import load_split
from mmagic_cm.errors import InputError
from mmagic_cm.web.gate import POLICY
from mmagic_cm.web.server import serve

ROOT = Path(__file__).parents[2]
CHECKPOINT = 'digits/iter_2.pth'


@pytest.fixture(scope='module')
def model(work_dirs):
    return init_model(work_dirs / 'digits' / 'tiny.py', work_dirs / CHECKPOINT, 'cpu')


def arrays_of(path: str) -> dict:
    with np.load(path) as arrays:
        return dict(arrays)


def test_what_the_page_draws_is_what_python_draws(page, model):
    costs, gallery, png, npz, gallery_b, *_ = page.client.predict(
        classes=['3', '4'], num_images=5, seed=7, api_name='/generate'
    )
    found = arrays_of(npz)
    images, labels = generate(model, 5, '3,4', 'OnestepSampler', seed=7)
    assert np.array_equal(found['arr_0'], images)
    assert np.array_equal(found['arr_1'], labels)
    assert [item['caption'] for item in gallery] == ['3', '4', '3', '4', '3']
    assert np.array_equal(np.asarray(Image.open(gallery[1]['image'])), images[1, ..., 0])
    assert Path(png).name == 'samples.png'
    assert not gallery_b
    assert '| A | onestep | 1 |' in costs


def test_a_result_leaves_each_of_its_files_once(page):
    count = lambda: sum(path.is_file() for path in page.folder.rglob('*'))  # noqa: E731
    before = count()
    page.client.predict(num_images=5, seed=99, api_name='/generate')
    assert count() - before == 7


def test_two_samplers_side_by_side(page, model):
    costs, _, _, a, _, _, b = page.client.predict(
        classes=['3'], num_images=2, compare=True, sampler_b='heun', num_steps_b=2,
        precision='bf16', api_name='/generate',
    )  # fmt: skip
    assert '| B | heun, 2 steps | 3 |' in costs
    assert not np.array_equal(arrays_of(a)['arr_0'], arrays_of(b)['arr_0'])


def test_edit(page, tmp_path):
    digit = load_split('test')[0][0]
    path = tmp_path / 'digit.png'
    Image.fromarray(digit[..., 0]).save(path)
    file = gradio_client.handle_file(str(path))
    gallery, png, npz = page.client.predict(
        picture=dict(background=file, layers=[], composite=None),
        mask='lower half',
        second=None,
        sigma=None,
        num_steps=3,
        api_name='/edit',
    )
    candidates = arrays_of(npz)['arr_0']
    assert candidates.shape == (4, 8, 8, 1)
    assert np.array_equal(candidates[:, :4], np.broadcast_to(digit[:4], (4, 4, 8, 1)))
    assert len(np.unique(candidates[:, 4:], axis=0)) == 4
    assert [item['caption'] for item in gallery][:3] == ['input', 'degraded', 'candidate 1']
    assert Path(png).stat().st_size > 0


def long_work(client: gradio_client.Client) -> gradio_client.client.Job:
    """Minutes of it, once it has begun."""
    settings = dict(num_images=256, batch_size=1, sampler='heun', num_steps=100)
    work = client.submit(**settings, api_name='/generate')
    end = time.monotonic() + 30
    while not work.status().progress_data and time.monotonic() < end:
        time.sleep(0.05)
    return work


def test_stop(page):
    work = long_work(page.client)
    page.client.predict(api_name='/stop_generate')
    assert 'stopped after' in work.result(timeout=30)[0]


def test_a_run(page):
    plot, grids = page.client.predict(runs=['digits'], api_name='/show_run')
    assert plot['plot'].startswith('data:image/png')
    assert [item['caption'] for item in grids] == ['iteration 2']


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(checkpoint='/etc/passwd'), '/etc/passwd'),
        (dict(checkpoint='{run}/iter_2.pth'), '{run}/iter_2.pth'),
        (dict(config='{run}/tiny.py'), '{run}/tiny.py'),
        (dict(classes=['eleven']), 'eleven'),
        (dict(sampler='multistep', levels='1, 2'), 'descend'),
    ],
)
def test_mistakes_are_answered_with_a_sentence(page, work_dirs, settings, named):
    run = str((work_dirs / 'digits').resolve())
    settings = {k: v.format(run=run) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(gradio_client.exceptions.AppError, match=named.format(run=run)):
        page.client.predict(**settings, api_name='/generate')


def test_people_who_choose_at_once_all_see_the_classes(page, ask):
    own = "the checkpoint's own"

    def choose(k: int) -> list[str]:
        [done] = [m for m in ask('describe', [CHECKPOINT, own]) if m['msg'] == 'process_completed']
        return [name for name, _ in done['output']['data'][0]['choices']]

    with ThreadPoolExecutor(5) as people:
        assert [*people.map(choose, range(20))] == [[*'0123456789']] * 20


def test_what_is_chosen_is_described(ask):
    def described(name: str) -> tuple:
        *_, done = ask('describe', [name, "the checkpoint's own"])
        classes, _, about = done['output']['data']
        return len(classes['choices']), about

    assert described(CHECKPOINT) == (10, '')
    classes, about = described('edm-imagenet-64x64-cond-adm')
    assert classes == 1000
    assert 'CC BY-NC-SA 4.0' in about
    assert 'FID 1.36 (NFE 511)' in about


def test_who_sees_no_classes_is_told_why(page, ask):
    messages = [*ask('describe', ['<b>nothing</b>.pth', "the checkpoint's own"])]
    [told] = [message['log'] for message in messages if message['msg'] == 'log']
    assert "'&lt;b&gt;nothing&lt;/b&gt;.pth' is none of the checkpoints" in told


def test_no_other_run_is_shown(page, work_dirs):
    run = str(work_dirs / 'digits')
    with pytest.raises(gradio_client.exceptions.AppError, match=run):
        page.client.predict(runs=[run], api_name='/show_run')


@pytest.mark.parametrize('path', ['/etc/passwd', str(ROOT / 'pyproject.toml'), '{checkpoint}'])
def test_no_file_is_served_but_its_own(page, work_dirs, path):
    path = path.format(checkpoint=work_dirs / CHECKPOINT)
    for route in ('gradio_api/file=', 'file='):
        answer = httpx.get(f'{page.url}/{route}{path}')
        assert answer.status_code in (403, 404)


def test_no_file_of_the_server_is_edited(page, work_dirs):
    """A path that was not uploaded is no picture, whatever the request says."""
    picture = work_dirs / 'digits' / 'samples' / 'iter_2.png'
    file = dict(path=str(picture), meta={'_type': 'gradio.FileData'})
    data = [CHECKPOINT, "the checkpoint's own", 'fp32', 'denoising']
    data += [dict(background=file, layers=[], composite=None), 'middle', None, [], 1, 0, 4]
    data += [None, 3, '', 1]
    begun = httpx.post(f'{page.url}/gradio_api/call/edit', json=dict(data=data)).json()
    answer = httpx.get(f'{page.url}/gradio_api/call/edit/{begun["event_id"]}').text
    assert 'event: error' in answer


def test_it_tells_browsers_to_fetch_nothing_from_elsewhere(page):
    answer = httpx.get(page.url)
    assert answer.headers['content-security-policy'] == POLICY
    assert 'fonts.googleapis.com/css' not in answer.text


def test_its_files_lie_in_one_folder_which_ends_with_it(page, tmp_path):
    assert page.folder.is_dir()
    assert {*os.listdir(page.folder)} <= {'served', 'examples'}
    before = {k: os.environ.get(k) for k in ('GRADIO_TEMP_DIR', 'GRADIO_EXAMPLES_CACHE')}
    with serve(page.shelf) as second:
        folder = Path(os.environ['GRADIO_TEMP_DIR']).parent
        assert second.local_url != page.url
        assert second.server_name == '127.0.0.1'
    assert not folder.exists()
    assert before == {k: os.environ.get(k) for k in before}


def test_nothing_is_asked_of_other_machines(page, monkeypatch):
    asked = []
    upstream = socket.getaddrinfo

    def spy(host, *args, **kwargs):
        asked.append(host)
        return upstream(host, *args, **kwargs)

    monkeypatch.setattr(socket, 'getaddrinfo', spy)
    with serve(page.shelf):
        pass
    known = {'127.0.0.1', 'localhost', '0.0.0.0', None}
    assert {h.decode() if isinstance(h, bytes) else h for h in asked} <= known


def test_a_port_that_is_taken(page):
    address = page.url.removeprefix('http://')
    with (
        pytest.raises(InputError, match=address),
        serve(page.shelf, port=int(address.rpartition(':')[2])),
    ):
        pass


@pytest.mark.slow
def test_a_signal_ends_it_and_removes_its_folder(run_script, work_dirs, port):
    folders: list[Path] = []

    def terminate() -> None:
        """Once it has an upload, and is at work."""
        url = f'http://127.0.0.1:{port}'
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as web:
            files = dict(files=('a.png', b'a'))
            [path] = web.post(f'{url}/gradio_api/upload', files=files).json()
        folders.append(Path(path).parents[2])
        long_work(gradio_client.Client(url, verbose=False, download_files=False))
        os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    client = threading.Thread(target=terminate)
    client.start()
    try:
        code, out, said = run_script(
            'demo/gradio_demo.py', '--port', port, '--work-dirs', work_dirs, '--device', 'cpu'
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    client.join(10)
    assert (code, said) == (143, 'stopped by SIGTERM.\n')
    assert f'127.0.0.1:{port}' in out
    assert folders[0].name.startswith('mmagic_cm_web_')
    assert not folders[0].exists()


AFTER_MMAGIC = """
import sys
from pathlib import Path
from mmagic_cm.integrations.mmagic_inferencer import register_into_mmagic
register_into_mmagic()
from mmagic.apis import MMagicInferencer
from mmengine import DefaultScope
work_dirs, port = Path(sys.argv[1]), int(sys.argv[2])
config, checkpoint = str(work_dirs / 'digits/tiny.py'), str(work_dirs / 'digits/iter_2.pth')
editor = MMagicInferencer('consistency_models', model_config=config, model_ckpt=checkpoint)
editor.infer(label=3)
DefaultScope.get_instance('left behind', scope_name='mmagic')
assert DefaultScope.get_current_instance().scope_name == 'mmagic'
import gradio_client
from mmagic_cm.web.models import Shelf
from mmagic_cm.web.server import serve
with serve(Shelf([work_dirs], 'cpu'), port=port) as page:
    client = gradio_client.Client(page.local_url, verbose=False, download_files=False)
    print(client.predict(sampler='heun', num_steps=2, api_name='/generate')[0])
    settings = dict(picture=None, second=None, sigma=None, task='interpolation')
    print(len(client.predict(**settings, api_name='/edit')[0]), 'pictures')
"""


@pytest.mark.slow
def test_after_mmagics_own_inferencer(work_dirs, port):
    command = [sys.executable, '-c', AFTER_MMAGIC, str(work_dirs), str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert '| A | heun, 2 steps | 3 |' in done.stdout
    assert '4 pictures' in done.stdout
