"""Hostile files, each made when it is first asked for."""

import json
import os
import shutil
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/consistency_models'
# Of a training: as small and silent as it can be.
TINY = [
    'train_cfg.max_iters=2',
    'train_dataloader.batch_size=8',
    'train_dataloader.dataset.serialize_data=False',
    'default_hooks.run_summary.measure=False',
    'custom_hooks.2.num_columns=1',
    'log_level=ERROR',
]
GARBAGE = bytes(range(256)) * 8


class Call:
    """What a pickle calls when it is read."""

    def __init__(self, function: Callable, *arguments) -> None:
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def zeros_deflated(archive: zipfile.ZipFile, name: str, head: bytes, count: int) -> None:
    """Add a member that promises ``count`` zeros after its head, in a thousandth of their room.

    Its checksum is wrong, which shows when all has been read.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = compressor.compress(bytes(2**24)) + compressor.flush(zlib.Z_FULL_FLUSH)
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, 'w', force_zip64=True) as member:
        member.write(head)
        packed = member._compressor.flush(zlib.Z_FULL_FLUSH)
        packed += chunk * (count // 2**24)
        member._fileobj.write(packed)
        member._compress_size += len(packed)
        member._file_size += count // 2**24 * 2**24


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    text = repr(dict(descr=dtype, fortran_order=False, shape=shape)).encode()
    text = text.ljust(118 - 1) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text


def png_of_zeros(path: Path, side: int) -> None:
    """Black, of one bit a pixel, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

    data = zlib.compress(bytes(side * (1 + -(-side // 8))), 9)
    header = struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header), chunk(b'IDAT', data), chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(parts))


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

    def __init__(self, folder: Path, commands) -> None:
        self.folder = folder
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
        path.write_bytes(GARBAGE)

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
        argv = ['tools/train.py', CONFIGS / config, '--work-dir', work_dir, '--cfg-options', *TINY]
        ended = self._commands.run(argv)
        assert ended.status == 0, ended

    def run_(self, path: Path) -> None:
        self._train('ct_1xb96-digits-8x8.py', path)

    def good_pth(self, path: Path) -> None:
        shutil.copy(self['run.'] / 'iter_2.pth', path)

    def teacher_pth(self, path: Path) -> None:
        self._train('edm_1xb96-digits-8x8.py', self.folder / 'teacher')
        shutil.copy(self.folder / 'teacher/iter_2.pth', path)

    def _checkpoint(self) -> dict:
        return torch.load(self['good.pth'], weights_only=False)  # our own

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

    def deflated_pth(self, path: Path) -> None:
        small = self.folder / 'small.zip'
        count = 3 * 2**28
        with torch.serialization.skip_data():
            torch.save(dict(state_dict=dict(a=torch.empty(count))), small)
        with zipfile.ZipFile(small) as source, zipfile.ZipFile(path, 'w') as target:
            for member in source.infolist():
                if member.filename.endswith('data/0'):
                    zeros_deflated(target, member.filename, b'', 4 * count)
                else:
                    target.writestr(member.filename, source.read(member))
        small.unlink()

    def calls_pth(self, path: Path) -> None:
        torch.save(dict(state_dict=dict(a=Call(os.system, f'touch {self.ran}'))), path)

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

    def good_safetensors(self, path: Path) -> None:
        argv = ['tools/model_converters/convert.py', self['good.pth'], '--to', 'ours']
        config = CONFIGS / 'ct_1xb96-digits-8x8.py'
        ended = self._commands.run([*argv, '--out', path, '--config', config])
        assert ended.status == 0, ended

    def header_safetensors(self, path: Path) -> None:
        path.write_bytes(struct.pack('<Q', 2**60) + b'{"a":')

    def promises_safetensors(self, path: Path) -> None:
        entry = dict(dtype='F32', shape=[2**17, 2**17], data_offsets=[0, 2**36])
        header = json.dumps(dict(a=entry)).encode()
        path.write_bytes(struct.pack('<Q', len(header)) + header)

    # Pictures

    def good_png(self, path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(path)

    def huge_png(self, path: Path) -> None:
        png_of_zeros(path, 13_000)

    def giant_png(self, path: Path) -> None:
        """Promises 8 GB more than it has."""
        png_of_zeros(path, 80)
        data = bytearray(path.read_bytes())
        data[16:24] = struct.pack('>II', 90_000, 90_000)
        data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
        path.write_bytes(data)

    def postscript_png(self, path: Path) -> None:
        path.write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n')

    def float_tiff(self, path: Path) -> None:
        Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(path)

    def rotated_jpg(self, path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new('L', (8, 8)).save(path, exif=exif)

    def tiny_png(self, path: Path) -> None:
        Image.new('L', (1, 1)).save(path)

    def wide_png(self, path: Path) -> None:
        Image.new('RGB', (12, 8)).save(path)

    def _among(self, path: Path, bad: Path) -> None:
        path.mkdir()
        for i in range(3):
            shutil.copy(self['good.png'], path / f'good{i}.png')
        os.symlink(bad, path / (bad.name if bad.suffix != '.tiff' else f'{bad.stem}.png'))

    def classes_(self, path: Path) -> None:
        for name in 'one', 'two', 'three':
            (path / name).mkdir(parents=True)
            shutil.copy(self['good.png'], path / name)

    def locked_classes(self, path: Path) -> None:
        self.classes_(path)
        (path / 'two').chmod(0)

    def stray_classes(self, path: Path) -> None:
        self.classes_(path)
        shutil.copy(self['good.png'], path / 'stray.png')

    def pictures_(self, path: Path) -> None:
        path.mkdir()
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(path / f'{i:02d}.png')

    # Arrays

    def good_npz(self, path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
        np.savez(path, pixels, np.arange(20) % 10)

    def statistics_npz(self, path: Path) -> None:
        """That the pixels' extractor cannot have made, so nothing is compared."""
        np.savez(path, mu=np.zeros(64), sigma=np.eye(64))

    def bomb_npz(self, path: Path) -> None:
        with zipfile.ZipFile(path, 'w') as archive:
            side = 30_000
            zeros_deflated(archive, 'mu.npy', npy_header((side,), '<f8'), 0)
            zeros_deflated(archive, 'sigma.npy', npy_header((side, side), '<f8'), 8 * side**2)

    def wall_npz(self, path: Path) -> None:
        """One picture of 60,000 x 60,000 pixels."""
        with zipfile.ZipFile(path, 'w') as archive:
            shape = 1, 60_000, 60_000, 1
            zeros_deflated(archive, 'arr_0.npy', npy_header(shape, '|u1'), 60_000**2)

    def promises_npz(self, path: Path) -> None:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('arr_0.npy', npy_header((10**12, 8, 8, 1), '|u1'))
            archive.writestr('mu.npy', npy_header((10**6,), '<f8'))
            archive.writestr('sigma.npy', npy_header((10**6, 10**6), '<f8'))

    def pickled_npz(self, path: Path) -> None:
        call = np.array([Call(os.system, f'touch {self.ran}')], object)
        np.savez(path, arr_0=call, mu=call, sigma=call)

    def nan_npz(self, path: Path) -> None:
        np.savez(path, mu=np.full(64, np.nan), sigma=np.full((64, 64), np.nan))

    def floats_npz(self, path: Path) -> None:
        np.savez(path, np.zeros((4, 8, 8, 1), np.float32))

    def rows_npz(self, path: Path) -> None:
        np.savez(path, np.zeros((4, 64), np.uint8))

    # Data bases

    def _lmdb(self, path: Path, items: dict[bytes, bytes]) -> None:
        with lmdb.open(str(path), map_size=2**24) as base, base.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key, value)

    def good_lmdb(self, path: Path) -> None:
        data = self['good.png'].read_bytes()
        self._lmdb(path, {f'{i:06d}'.encode(): data for i in range(300)})

    def values_lmdb(self, path: Path) -> None:
        self._lmdb(path, {f'{i:06d}'.encode(): GARBAGE[:99] for i in range(300)})

    def keys_lmdb(self, path: Path) -> None:
        data = self['good.png'].read_bytes()
        self._lmdb(path, {b'\xff\xfe%d' % i: data for i in range(20)})

    def damaged_lmdb(self, path: Path) -> None:
        shutil.copytree(self['good.lmdb'], path)
        data = bytearray((path / 'data.mdb').read_bytes())
        for begin in range(2 * 4096, len(data), 4096):
            data[begin : begin + 64] = b'\xff' * 64
        (path / 'data.mdb').write_bytes(data)

    def garbage_lmdb(self, path: Path) -> None:
        path.mkdir()
        (path / 'data.mdb').write_bytes(GARBAGE * 4)

    def nothing_lmdb(self, path: Path) -> None:
        path.mkdir()
        (path / 'data.mdb').touch()

    def pipe_lmdb(self, path: Path) -> None:
        path.mkdir()
        os.mkfifo(path / 'data.mdb')

    # Configs

    def good_py(self, path: Path) -> None:
        path.write_text(f"_base_ = '{CONFIGS / 'ct_1xb96-digits-8x8.py'}'\n")

    def distilling_py(self, path: Path) -> None:
        path.write_text(f"_base_ = '{CONFIGS / 'cd-l2_1xb96-digits-8x8.py'}'\n")

    def syntax_py(self, path: Path) -> None:
        path.write_text('model = dict(type=\n')

    def null_py(self, path: Path) -> None:
        path.write_bytes(b'model = 1\0\n')

    def number_py(self, path: Path) -> None:
        path.write_text('model = 3\n')

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
        figures = dict(accuracy=0.5, frechet_distance=3.0)
        path.write_text(json.dumps(dict(figures=figures, about={})))

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
        self._log(path, GARBAGE)

    def words_run(self, path: Path) -> None:
        self._log(path, b'{"loss": "low", "step": "first"}\n[]\n3\n')

    def stepless_run(self, path: Path) -> None:
        self._log(path, b'{"loss": 1.0}\n')

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
        (path / 'last_checkpoint').write_bytes(GARBAGE)

    # Others

    def module_pt(self, path: Path) -> None:
        torch.save(dict(a=torch.zeros(1)), path)

    def labels_txt(self, path: Path) -> None:
        path.write_text('00.png 0\n01.png 1000000000\n')

    def signs_txt(self, path: Path) -> None:
        path.write_text('00.png -1\n')

    def good_txt(self, path: Path) -> None:
        path.write_text('00.png 0\n01.png 1\n')
