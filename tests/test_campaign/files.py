"""Hostile files, each made when it is first asked for: checkpoints, configs, logs."""

import json
import os
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmagic_cm.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'


class Call:
    """What a pickle calls when it is read."""

    def __init__(self, function: Callable, *arguments) -> None:
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def flip_a_byte(path: Path) -> None:
    """In the middle of the largest member of a zip."""
    with zipfile.ZipFile(path) as archive:
        info = max(archive.infolist(), key=lambda member: member.file_size)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 200 + info.file_size // 2] ^= 0x40
    path.write_bytes(data)


class Files:
    """``files[name]`` is the path of a file that ``NAME.SUFFIX`` describes.

    Of any suffix: ``missing``, ``empty``, ``text`` (of no encoding), ``folder``, ``fifo``,
    ``endless`` (/dev/zero), ``secret`` (mode 0), and ``cut`` (half of the good one).
    ``among-NAME`` is a folder with three good pictures and that file.
    """

    # Of a training: as small and silent as it can be.
    tiny = (
        'train_cfg.max_iters=2',
        'train_dataloader.batch_size=8',
        'train_dataloader.dataset.serialize_data=False',
        'default_hooks.logger.interval=1',
        'custom_hooks.2.num_columns=1',
        'log_level=ERROR',
    )

    def __init__(self, folder: Path, commands) -> None:
        self.folder = folder
        self.garbage = bytes(range(256)) * 8
        # What a hostile file makes when it runs code.
        self.ran = folder / 'ran'
        self._commands = commands
        # What Pillow starts for PostScript.
        ghostscript = folder / 'bin/gs'
        ghostscript.parent.mkdir()
        ghostscript.write_text(f'#!/bin/sh\ntouch {self.ran}\n')
        ghostscript.chmod(0o755)

    def __getitem__(self, name: str) -> Path:
        path = self.folder / name
        if not os.path.lexists(path):
            if name.startswith('among-'):
                self._among(path, self[name.removeprefix('among-')])
            else:
                stem, _, suffix = name.partition('.')
                anywhere = getattr(self, f'any_{stem}', None)
                maker = anywhere or getattr(self, f'{stem}_{suffix}'.replace('-', '_'))
                maker(path)
        return path

    def any_missing(self, path: Path) -> None:
        pass

    def any_empty(self, path: Path) -> None:
        path.touch()

    def any_text(self, path: Path) -> None:
        path.write_bytes(self.garbage)

    def any_folder(self, path: Path) -> None:
        path.mkdir()

    def locked_folder(self, path: Path) -> None:
        path.mkdir(mode=0o500)

    def any_fifo(self, path: Path) -> None:
        os.mkfifo(path)

    def any_endless(self, path: Path) -> None:
        path.symlink_to('/dev/zero')

    def any_secret(self, path: Path) -> None:
        shutil.copy(self['good' + path.suffix], path)
        path.chmod(0)

    def any_cut(self, path: Path) -> None:
        good = self['good' + path.suffix]
        if good.is_dir():  # an LMDB
            path.mkdir()
            good, path = good / 'data.mdb', path / 'data.mdb'
        data = good.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    # Runs and checkpoints

    def _train(self, config: str, work_dir: Path) -> None:
        argv = [
            'tools/train.py',
            CONFIGS / config,
            '--work-dir',
            work_dir,
            '--cfg-options',
            *self.tiny,
        ]
        ended = self._commands.run(argv)
        assert ended.status == 0, ended

    def run_(self, path: Path) -> None:
        self._train('ct_1xb96-digits-8x8.py', path)

    def good_pth(self, path: Path) -> None:
        shutil.copy(self['run.'] / 'iter_2.pth', path)

    def _checkpoint(self) -> dict:
        return read_checkpoint(self['good.pth'])

    def flipped_pth(self, path: Path) -> None:
        shutil.copy(self['good.pth'], path)
        flip_a_byte(path)

    def giant_pth(self, path: Path) -> None:
        torch.save(dict(state_dict=dict(a=Call(bytearray, 12 << 30))), path)

    def strided_pth(self, path: Path) -> None:
        checkpoint = self._checkpoint()
        wide = torch.zeros(1).expand(60_000, 60_000)
        weights = checkpoint['state_dict']
        named = OrderedDict.fromkeys(weights, wide)
        emas = {rate: dict.fromkeys(average, wide) for rate, average in checkpoint['emas'].items()}
        torch.save({**checkpoint, 'state_dict': named, 'emas': emas}, path)

    def calls_pth(self, path: Path) -> None:
        torch.save(dict(state_dict=dict(a=Call(os.system, f'touch {self.ran}'))), path)

    def pickled_npz(self, path: Path) -> None:
        call = np.array([Call(os.system, f'touch {self.ran}')], object)
        np.savez(path, arr_0=call, mu=call, sigma=call)

    def nan_pth(self, path: Path) -> None:
        checkpoint = self._checkpoint()
        for weights in checkpoint['state_dict'], *checkpoint['emas'].values():
            for tensor in weights.values():
                if tensor.is_floating_point():
                    tensor.fill_(float('nan'))
        torch.save(checkpoint, path)

    def other_pth(self, path: Path) -> None:
        torch.save({'conv1.weight': torch.zeros(3, 3)}, path)

    def list_pth(self, path: Path) -> None:
        torch.save([torch.zeros(3)], path)

    def nested_pth(self, path: Path) -> None:
        torch.save(dict(state_dict={1: 2}, emas=3, meta=4), path)

    def _with_config(self, path: Path, old: str, new: str) -> None:
        checkpoint = self._checkpoint()
        text = checkpoint['meta']['cfg']
        assert old in text
        checkpoint['meta']['cfg'] = text.replace(old, new)
        torch.save(checkpoint, path)

    def blocks_pth(self, path: Path) -> None:
        self._with_config(path, 'num_res_blocks=1', 'num_res_blocks=100000000')

    def wide_pth(self, path: Path) -> None:
        self._with_config(path, 'model_channels=32', 'model_channels=3200000')

    def subprocess_pth(self, path: Path) -> None:
        call = f"type='subprocess.getoutput', cmd='touch {self.ran}'"
        self._with_config(path, "type='OnestepSampler'", call)

    def code_pth(self, path: Path) -> None:
        new = f"__import__('os').system('touch {self.ran}')"
        self._with_config(path, 'num_res_blocks=1', f'num_res_blocks={new}')

    def header_safetensors(self, path: Path) -> None:
        path.write_bytes(struct.pack('<Q', 2**60) + b'{"a":')

    def promises_safetensors(self, path: Path) -> None:
        entry = dict(dtype='F32', shape=[2**17, 2**17], data_offsets=[0, 2**36])
        header = json.dumps(dict(a=entry)).encode()
        path.write_bytes(struct.pack('<Q', len(header)) + header)

    # Configs

    def good_py(self, path: Path) -> None:
        path.write_text(f"_base_ = '{CONFIGS / 'ct_1xb96-digits-8x8.py'}'\n")

    def distilling_py(self, path: Path) -> None:
        path.write_text(f"_base_ = '{CONFIGS / 'cd-l2_1xb96-digits-8x8.py'}'\n")

    def syntax_py(self, path: Path) -> None:
        path.write_text('model = dict(type=\n')

    def null_py(self, path: Path) -> None:
        path.write_bytes(b'model = 1\0\n')

    def untyped_py(self, path: Path) -> None:
        path.write_text("model = dict(denoiser='x')\ntrain_cfg = dict()\n")

    def itself_py(self, path: Path) -> None:
        path.write_text(f"_base_ = '{path}'\n")

    def baseless_py(self, path: Path) -> None:
        path.write_text("_base_ = './nowhere_at_all.py'\n")

    def raises_py(self, path: Path) -> None:
        path.write_text('a = 1 / 0\n')

    def imports_py(self, path: Path) -> None:
        path.write_text("custom_imports = dict(imports=['nowhere_at_all'])\n")

    def deep_py(self, path: Path) -> None:
        path.write_text('a = ' + '[' * 5000 + ']' * 5000 + '\n')

    def runs_yaml(self, path: Path) -> None:
        path.write_text(f'model: !!python/object/apply:os.system ["touch {self.ran}"]\n')

    def aliases_yaml(self, path: Path) -> None:
        lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
        lines += [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, 10)]
        path.write_text('\n'.join(lines) + '\n')

    def runs_json(self, path: Path) -> None:
        call = dict(type='subprocess.getoutput', cmd=f'touch {self.ran}')
        path.write_text(json.dumps(dict(model=call, train_cfg=call)))

    def folders_py(self, path: Path) -> None:
        """Trains on ``data_root``."""
        path.write_text(
            f"_base_ = '{self['good.py']}'\n"
            f"data_root = '{self['pictures.']}'\n"
            'train_dataloader = dict(dataset=dict(\n'
            "    _delete_=True, type='ImageFolder', data_root=data_root, pipeline=[\n"
            "        dict(type='LoadImage', color='gray'), dict(type='CenterCrop', size=8),\n"
            "        dict(type='PackImage')]))\n"
        )

    # Figures

    def good_json(self, path: Path) -> None:
        about = {'checkpoint': 'a.pth', 'network evaluations': 1}
        path.write_text(json.dumps(dict(frechet_distance=3.0, about=about)))

    def list_json(self, path: Path) -> None:
        path.write_text('[1, 2]')

    def deep_json(self, path: Path) -> None:
        path.write_text('[' * 100_000)

    def _log(self, path: Path, content: bytes | None) -> None:
        folder = path / '20260101_000000/vis_data'
        folder.mkdir(parents=True)
        if content is None:
            os.mkfifo(folder / 'scalars.json')
        else:
            (folder / 'scalars.json').write_bytes(content)

    def text_run(self, path: Path) -> None:
        self._log(path, self.garbage)

    def words_run(self, path: Path) -> None:
        self._log(path, b'{"loss": "low", "step": "first"}\n[]\n3\n')

    def nan_run(self, path: Path) -> None:
        self._log(path, b'{"loss": NaN, "step": 1}\n{"loss": Infinity, "step": 2}\n')

    def pipe_run(self, path: Path) -> None:
        self._log(path, None)

    def grid_run(self, path: Path) -> None:
        self._log(path, b'{"loss": 1.0, "step": 1}\n{"loss": 0.5, "step": 2}\n')
        (path / 'samples').mkdir()
        shutil.copy(self['huge.png'], path / 'samples/iter_2.png')

    def lost_run(self, path: Path) -> None:
        path.mkdir()
        (path / 'last_checkpoint').write_text(str(path / 'iter_7.pth'))

    def garbled_run(self, path: Path) -> None:
        path.mkdir()
        (path / 'last_checkpoint').write_bytes(self.garbage)

    # Others

    def module_pt(self, path: Path) -> None:
        torch.save(dict(a=torch.zeros(1)), path)

    def labels_txt(self, path: Path) -> None:
        path.write_text('00.png 0\n01.png 1000000000\n')

    def signs_txt(self, path: Path) -> None:
        path.write_text('00.png -1\n')
