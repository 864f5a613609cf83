"""Unpack one file of a large archive; :func:`download` fetches it."""

import zipfile
from pathlib import Path

from tqdm import tqdm

from ..download import CHUNK, download
from ..errors import InputError

__all__ = ['download', 'unpack_member']


def unpack_member(archive: str | Path, member: str, folder: str | Path) -> Path:
    """Unpack one file of a zip, with a progress bar; nothing is done if it is there already.

    Args:
        archive: The zip.
        member: The file's path inside of it.
        folder: Where to put the file, without the folders of ``member``.

    Raises:
        InputError: The zip is damaged or has no such file.
    """
    target = Path(folder, Path(member).name)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'.{target.name}.part')
    try:
        with zipfile.ZipFile(archive) as files:
            size = files.getinfo(member).file_size
            with (
                files.open(member) as packed,
                part.open('wb') as file,
                tqdm(desc=f'unpacking {member}', total=size, unit='B', unit_scale=True) as bar,
            ):
                while chunk := packed.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except KeyError as error:
        raise InputError(f'{archive} holds no {member}: it is another file.') from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(
            f'{archive} is damaged ({error}): delete it and fetch it again.'
        ) from error
    part.replace(target)
    return target
