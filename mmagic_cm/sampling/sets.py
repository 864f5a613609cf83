"""Sets of samples in files: written while they are drawn, by any number of processes.

Until a set is complete, it grows in the folder ``OUT.part`` beside it, where each batch appears
whole or not at all. So a command that was killed goes on where it stopped, whatever batch size and
number of processes it has then.
"""

import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from tqdm import tqdm

from ..diffusion.samplers import DiffusionSampler
from ..errors import InputError, doing
from ..io.digests import tensors_digest
from ..io.files import in_place_of, writing
from ..io.images import is_picture, make_grid, save_image
from ..io.locks import Lock
from ..models.consistency_model import ConsistencyModel
from .loop import Labels, check_seed, choose_labels, iter_samples

SETTINGS = 'settings.json'
# '000064-000128.npy' holds the images 64 to 127, '000064.png' the image 64.
_DONE = re.compile(r'(\d+)(?:-(\d+))?\.(?:npy|png)')
_POLL_SECONDS = 1.0


def write_samples(
    model: ConsistencyModel,
    num_samples: int,
    out: str | Path,
    labels: Labels = None,
    sampler: str | dict | DiffusionSampler | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    num_columns: int | None = None,
) -> None:
    """Draw images into a file or a folder; call it in every process of a launcher.

    In memory are a batch of images and the labels (8 bytes an image); for a grid, all images.

    Args:
        model: From :func:`~mmagic_cm.apis.init_model`.
        num_samples: How many.
        out: ``FILE.npz`` in ADM's form (``arr_0`` uint8 NHWC, ``arr_1`` int64 labels),
            ``GRID.png`` (or another picture), or a folder of ``000000.png``, ``000001.png``, ...
            with ``labels.txt`` (a label a line) and ``settings.json``.
        labels: As :func:`~mmagic_cm.sampling.loop.choose_labels` takes them.
        sampler: A registered name, a config or an object; default: the model's own.
        seed: Image i depends on (seed, i, its label) alone.
        batch_size: Images at a time; changes nothing but speed and memory.
        progress: Show a bar over the images of all processes.
        num_columns: Of a grid; default: as many as rows.

    In the main process it returns when ``out`` is complete, in the others when all is drawn.

    Raises:
        InputError: ``out`` exists or cannot be written, was begun with other settings, or is
            being written by another command.
        RuntimeError: Another process died before its share was drawn.
    """
    if num_samples < 1:
        raise InputError(f'num_samples must be at least 1, not {num_samples}.')
    if batch_size < 1:
        raise InputError(f'batch_size must be at least 1, not {batch_size}.')
    if model.guidance_scale is not None and not model.null_class:  # said before a folder is made
        raise InputError('guidance_scale needs null_class=True in the network.')
    seed = check_seed(seed)
    out = Path(out)
    kind = _kind_of(out)
    sampler = model.sampler_for(sampler)
    chosen = choose_labels(model, range(num_samples), labels, seed)
    part = out.with_name(f'{out.name}.part')
    with Lock(out.with_name(f'{out.name}.lock'), out) as lock:
        if is_main_process():
            _check_free(out, kind)
            _prepare(part, _settings(model, num_samples, chosen, sampler, seed))
        lock.share()
        batches = _missing(part, num_samples, batch_size)
        barrier()  # nobody adds a batch before everybody knows which ones are missing
        of_all = _Progress(part, num_samples, batches, shown=progress)
        for batch in batches[get_rank() :: get_world_size()]:
            of_batch = None if chosen is None else chosen[batch.start : batch.stop]
            [images] = iter_samples(model, batch, of_batch, sampler, seed, batch_size)
            _save(images.permute(0, 2, 3, 1).cpu().numpy(), batch, part, kind)
            of_all.update(len(batch))
        of_all.wait()
        if is_main_process():
            _finish(part, out, kind, chosen, num_columns)


def _kind_of(out: Path) -> str:
    """'npz', 'grid' or 'folder', by the ending of the name."""
    if out.suffix.lower() == '.npz':
        return 'npz'
    if is_picture(out):
        return 'grid'
    if not out.name or out.suffix[1:].isalpha():  # but 'run_0.99' is a folder
        raise InputError(
            f'{out} names no set of samples: end it with .npz, with .png for a grid, or name a '
            f'folder.'
        )
    return 'folder'


def _check_free(out: Path, kind: str) -> None:
    """Refuse to replace anything but a grid."""
    taken = out.is_dir() if kind == 'grid' else out.exists()
    if kind == 'folder' and out.is_dir():
        taken = any(out.iterdir())
    if taken:
        raise InputError(f'{out} exists already: remove it, or give another name.')


def _settings(
    model: ConsistencyModel,
    num_samples: int,
    labels: torch.Tensor | None,
    sampler: DiffusionSampler,
    seed: int,
) -> dict:
    """All that the images depend on, as JSON has it."""
    public = {name: value for name, value in vars(sampler).items() if name[0] != '_'}
    # Beside the weights: layers, heads, scalings.
    parts = [
        (type(part).__name__, {k: v for k, v in vars(part).items() if type(v) in (int, float, str)})
        for part in [*model.denoiser.modules(), model.denoiser.parameterization]
    ]
    settings = dict(
        num_samples=num_samples,
        seed=seed,
        labels=None if labels is None else tensors_digest(dict(labels=labels)),
        sampler=dict(type=type(sampler).__name__, **public),
        guidance_scale=model.guidance_scale,
        precision=model.precision,
        model=tensors_digest(model.denoiser.state_dict(), str(parts)),
    )
    return json.loads(json.dumps(settings, default=str))


def _prepare(part: Path, settings: dict) -> None:
    """Make the folder, or see that what it holds are images of the same settings."""
    path = part / SETTINGS
    begun = bool(_done(part)) if part.is_dir() else False
    if begun:
        with doing(f'reading {path} (without {part}, the same command begins anew)'):
            before = json.loads(path.read_text())
        for name, value in settings.items():
            if before.get(name) != value:
                raise InputError(
                    f'{part} holds images of an interrupted run with other settings ({name}: '
                    f'{before.get(name)} there, {value} now): remove it, or give another name.'
                )
    with writing(path):
        part.mkdir(parents=True, exist_ok=True)
        for left_over in part.glob('.*'):  # of a batch that was cut short
            left_over.unlink()
        path.write_text(json.dumps(settings, indent=2) + '\n')


def _done(part: Path) -> list[tuple[int, int, Path]]:
    """What is written: (first image, last image + 1, file), in order."""
    found = []
    with os.scandir(part) as entries:
        for entry in entries:
            if match := _DONE.fullmatch(entry.name):
                first = int(match[1])
                found.append((first, int(match[2] or first + 1), Path(entry.path)))
    return sorted(found)


def _is_done(part: Path, num_samples: int) -> np.ndarray:
    """Which images are written, bool (N,)."""
    is_done = np.zeros(num_samples, dtype=bool)
    for first, stop, _ in _done(part):
        is_done[first:stop] = True
    return is_done


def _missing(part: Path, num_samples: int, batch_size: int) -> list[range]:
    """The batches that are still to be drawn."""
    numbers = np.flatnonzero(~_is_done(part, num_samples))
    batches = []
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        for i in range(0, len(run), batch_size):
            of_batch = run[i : i + batch_size]
            batches.append(range(int(of_batch[0]), int(of_batch[-1]) + 1))
    return batches


class _Progress:
    """A bar over the images of all processes, of which the files tell."""

    def __init__(self, part: Path, num_samples: int, batches: list[range], shown: bool) -> None:
        self._part = part
        self._num_samples = num_samples
        self._looked = time.monotonic()
        # Processes that share a GPU take longer than others, by more than the usual time-out.
        self._group = None
        if get_world_size() > 1:
            self._group = dist.new_group(backend='gloo', timeout=timedelta(days=30))
        self._bar = tqdm(
            total=num_samples,
            initial=num_samples - sum(map(len, batches)),
            desc='sampling',
            unit='image',
            disable=not (shown and is_main_process()),
            # Where lines cannot be overwritten, few of them.
            mininterval=0.5 if sys.stderr.isatty() else 15,
        )

    def update(self, count: int) -> None:
        """This process has written some more."""
        if get_world_size() == 1:
            self._bar.update(count)
        elif is_main_process() and time.monotonic() - self._looked > _POLL_SECONDS:
            self._look()

    def wait(self) -> None:
        """Until all processes have written theirs; an error where one of them has died."""
        if self._group is not None:
            met = dist.barrier(self._group, async_op=True)
            while not met.is_completed():
                time.sleep(0.1)
                self.update(0)
            with doing(
                f'waiting for the other processes (the same command goes on from {self._part})'
            ):
                met.wait()
            if is_main_process():
                self._look()
        self._bar.close()

    def _look(self) -> None:
        count = int(_is_done(self._part, self._num_samples).sum())
        self._bar.update(count - self._bar.n)
        self._looked = time.monotonic()


def _save(images: np.ndarray, batch: range, part: Path, kind: str) -> None:
    """Write uint8 (n, H, W, C)."""
    if kind == 'folder':
        for i, image in zip(batch, images, strict=True):
            save_image(image, part / f'{i:06d}.png')
        return
    name = f'{batch.start:06d}-{batch.stop:06d}.npy'
    with in_place_of(part / name, shared=True) as fresh, fresh.open('wb') as file:
        np.save(file, np.ascontiguousarray(images))


def _finish(
    part: Path, out: Path, kind: str, labels: torch.Tensor | None, num_columns: int | None
) -> None:
    """Make ``out`` of what lies in the folder."""
    if kind == 'folder':
        if labels is not None:
            np.savetxt(part / 'labels.txt', labels.numpy(), fmt='%d')
        with writing(out):
            os.replace(part, out)
        return
    if kind == 'npz':
        with in_place_of(out) as fresh:
            _merge(part, fresh, labels)
    else:
        images = np.concatenate([*_batches(part)])
        save_image(make_grid(images, num_columns or int(np.ceil(len(images) ** 0.5))), out)
    shutil.rmtree(part)


def _batches(part: Path) -> Iterator[np.ndarray]:
    """The images in order, a file at a time, each once.

    Files overlap where processes of a killed launcher went on beside those of the next one, on a
    file system that keeps no locks between machines.
    """
    position = 0
    for first, stop, path in _done(part):
        with doing(f'reading {path} (without it, the same command draws its images again)'):
            images = np.load(path)
        if stop > position:
            yield images[max(position - first, 0) :]
            position = stop


def _merge(part: Path, path: Path, labels: torch.Tensor | None) -> None:
    """Write all images as one npz, a file of them in memory at a time."""
    count = max(stop for _, stop, _ in _done(part))
    shape = (count, *next(_batches(part)).shape[1:])
    with zipfile.ZipFile(path, 'w') as archive:
        with archive.open('arr_0.npy', 'w', force_zip64=True) as member:
            header = dict(descr='|u1', fortran_order=False, shape=shape)
            np.lib.format.write_array_header_1_0(member, header)
            for images in _batches(part):
                member.write(images.tobytes())
        if labels is not None:
            with archive.open('arr_1.npy', 'w', force_zip64=True) as member:
                np.lib.format.write_array(member, labels.numpy(), allow_pickle=False)
