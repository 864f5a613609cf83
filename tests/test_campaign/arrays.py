"""Hostile pictures, arrays and data bases, of which some promise much more than they hold."""

import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image


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


class Arrays:
    """A part of ``Files`` in ``files.py``."""

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

    def nan_npz(self, path: Path) -> None:
        np.savez(path, mu=np.full(64, np.nan), sigma=np.full((64, 64), np.nan))

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
        self._lmdb(path, {f'{i:06d}'.encode(): self.garbage[:99] for i in range(300)})

    def keys_lmdb(self, path: Path) -> None:
        data = self['good.png'].read_bytes()
        self._lmdb(path, {b'\xff\xfe%d' % i: data for i in range(20)})

    def damaged_lmdb(self, path: Path) -> None:
        shutil.copytree(self['good.lmdb'], path)
        data = bytearray((path / 'data.mdb').read_bytes())
        for begin in range(2 * 4096, len(data), 4096):
            data[begin : begin + 64] = b'\xff' * 64
        (path / 'data.mdb').write_bytes(data)

    def pipe_lmdb(self, path: Path) -> None:
        path.mkdir()
        os.mkfifo(path / 'data.mdb')

    # Checkpoints

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
