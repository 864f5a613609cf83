"""Fetch a large file, going on where an attempt before stopped; unpack one of an archive."""

import http.client
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..errors import InputError
from .files import in_place_of

CHUNK = 2**20


def download(
    url: str,
    path: str | Path,
    check: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a file; nothing is done if it is there already.

    It grows as ``NAME.part``; a second attempt asks the server for the rest.

    Args:
        url: http or https.
        path: Where to put it; the folders above are made.
        check: Raises an :class:`InputError` where the whole file is not what it should be; that
            file is removed then.
        progress: Show a bar.

    Raises:
        InputError: The server cannot be reached, the connection broke, or ``check`` says no.
    """
    path = Path(path)
    if path.is_file():
        return path
    part = path.with_name(f'{path.name}.part')
    advice = (
        f'run the command again to go on where it stopped, or fetch the file by other means and '
        f'put it at {path}.'
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        missing = _fetch(url, part, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', None) or error
        raise InputError(f'{url} cannot be fetched ({reason}): {advice}') from error
    if missing:
        raise InputError(f'{url}: the connection broke {missing:,} bytes before the end: {advice}')
    if check is not None:
        try:
            check(part)
        except InputError:
            part.unlink()
            raise
    part.replace(path)
    return path


def _fetch(url: str, part: Path, progress: bool) -> int:
    """Append what is missing to the file; returns how many bytes are still missing then."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get('Content-Range') == f'bytes */{have}':
            return 0  # It was whole.
        part.unlink()  # Longer than the server's file: of another version.
        return _fetch(url, part, progress)
    with response:
        if response.status != 206:
            have = 0  # The server sends everything again.
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        with (
            part.open('ab' if have else 'wb') as file,
            tqdm(
                desc=url.rsplit('/', 1)[-1],
                total=total,
                initial=have,
                unit='B',
                unit_scale=True,
                unit_divisor=1024,
                disable=not progress,
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total - part.stat().st_size if total else 0


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
    try:
        with zipfile.ZipFile(archive) as files:
            size = files.getinfo(member).file_size
            with (
                files.open(member) as packed,
                in_place_of(target) as fresh,
                fresh.open('wb') as file,
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
    return target
