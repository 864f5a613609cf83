"""Images in an npz, as ADM's files and ``tools/sample.py`` have them."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from ..io.images import MAX_PIXELS

# What readers of npz files raise at files that are none.
NPZ_ERRORS = (OSError, ValueError, EOFError, LookupError, MemoryError, zipfile.BadZipFile)
# Of an image in an npz: of 64 at a time as many as of one picture.
_MAX_PIXELS = MAX_PIXELS // 64
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzImages(Dataset):
    """``arr_0`` of an npz: uint8 (N, H, W, C), C = 1 or 3; one image at a time is in memory.

    Entry i is ``dict(inputs=uint8 (C, H, W))``. They are to be read in order, by one process.

    Args:
        path: The file.

    Attributes:
        digest: Changes when the array does.

    Raises:
        InputError: It cannot be read, or does not hold such an array.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo('arr_0.npy')
                self.digest = f'{info.file_size}-{info.CRC:08x}'
                # Its handle of the file stays open as long as it is.
                self._member = archive.open(info)
            version = np.lib.format.read_magic(self._member)
            if version not in _READERS:
                raise ValueError(f'arrays of version {version} are not known')
            self._shape, fortran_order, dtype = _READERS[version](self._member)
        except NPZ_ERRORS as error:
            reason = 'it holds no arr_0' if isinstance(error, KeyError) else error
            raise InputError(f'{path} cannot be read as an npz of images: {reason}.') from error
        shape = self._shape
        images = len(shape) == 4 and shape[3] in (1, 3) and min(shape) > 0 and not fortran_order
        if dtype != np.uint8 or not images or shape[1] * shape[2] > _MAX_PIXELS:
            raise InputError(
                f'{path}: arr_0 must be uint8 images (N, H, W, C) with C = 1 or 3 and at most '
                f'{_MAX_PIXELS:,} pixels each, not {dtype} {shape}.'
            )
        self._begin = self._member.tell()

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        size = int(np.prod(self._shape[1:]))
        try:
            self._member.seek(self._begin + index * size)
            data = self._member.read(size)
        except NPZ_ERRORS as error:
            raise InputError(f'{self.path} is damaged: {error}.') from error
        if len(data) != size:
            raise InputError(f'{self.path} is damaged: it ends at image {index}.')
        image = np.frombuffer(data, np.uint8).reshape(self._shape[1:])
        return dict(inputs=torch.from_numpy(image.transpose(2, 0, 1).copy()))
