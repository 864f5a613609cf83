"""Editing pictures with a model: what ``tools/edit.py`` and MMagic's inferencer stand on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..diffusion.noise import PerSampleNoise, derive_seed
from ..errors import InputError, closest
from ..io.images import make_grid, to_uint8
from ..models.consistency_model import ConsistencyModel
from ..sampling.loop import Labels, check_seed, choose_labels
from .denoising import denoise_image
from .fitting import Fit, Picture, mask_to_tensor, picture_to_tensor
from .interpolation import interpolate
from .loop import NUM_LEVELS, Denoiser, edit, levels_of
from .operators import Guide, Luminance, Mask, Operator, PatchMean, into_gamut
from .tasks import STROKE_LEVELS

SHARED_NOISE_LEVEL = 2.24  # of a walk between two pictures


@dataclass(frozen=True)
class Task:
    """What a task of :func:`edit_pictures` is made of.

    Attributes:
        operator: Makes it from masks (N, 1, H, W) and the factor.
        levels: Default noise levels; None: the Karras grid of the model.
        needs_mask: Takes masks; the others refuse them.
        takes_small: A picture that fits the network when enlarged by the factor is the
            measurement itself.
        degrades: There is a degraded picture to show.
        one_evaluation: Denoise the picture as it is instead of running the loop.
    """

    operator: Callable[[torch.Tensor | None, int], Operator]
    levels: Sequence[float] | None = None
    needs_mask: bool = False
    takes_small: bool = False
    degrades: bool = True
    one_evaluation: bool = False


_TASKS = {
    'inpainting': Task(lambda masks, factor: Mask(masks), needs_mask=True),
    'colorization': Task(lambda masks, factor: Luminance()),
    'super-resolution': Task(lambda masks, factor: PatchMean(factor), takes_small=True),
    'stroke': Task(lambda masks, factor: Guide(), levels=STROKE_LEVELS, degrades=False),
    'denoising': Task(lambda masks, factor: Guide(), degrades=False, one_evaluation=True),
}
TASKS = (*_TASKS, 'interpolation')


@dataclass(frozen=True)
class Edited:
    """What became of a picture.

    Attributes:
        shown: What it was made from, uint8 (H, W, C) by name: 'input', 'degraded'; of a walk
            between pictures 'first', 'last'.
        candidates: uint8 (K, H, W, C); of a walk its pictures in turn.
    """

    shown: dict[str, np.ndarray]
    candidates: np.ndarray

    def side_by_side(self, cell_size: int = 64) -> Image.Image:
        """All in one row; small pictures are enlarged to about ``cell_size``."""
        row = np.stack([*self.shown.values(), *self.candidates])
        return make_grid(row, len(row), cell_size=cell_size)


def edit_pictures(
    model: ConsistencyModel,
    task: str,
    pictures: Sequence[Picture] = (),
    *,
    masks: Sequence[Picture] = (),
    factor: int = 4,
    sigma: float | None = None,
    sigmas: Sequence[float] | None = None,
    num_steps: int = NUM_LEVELS,
    sigma_max: float | None = None,
    sigma_min: float | None = None,
    num_resamples: int = 1,
    labels: Labels = None,
    seed: int = 0,
    num_candidates: int | None = None,
    teacher: Denoiser | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> list[Edited]:
    """Edit pictures of any size.

    A picture is scaled to the network's square, the rest of which repeats its edge; the result is
    scaled back, and known pixels or luminance are put in again at the size of the picture.

    Args:
        model: From :func:`~mmagic_cm.apis.init_model`.
        task: One of ``TASKS``.
        pictures: PIL images or uint8 arrays (H, W), (H, W, 1), (H, W, 3). Of an interpolation two,
            or none: then the walk is between two noises.
        masks: Of inpainting: white = keep, black = fill, of the size of the picture; one for all,
            or one for each.
        factor: Of super-resolution; divides the network's size. A picture that is at most
            1 / factor of that size is taken as the small picture itself.
        sigma: Noise level: of denoising, that of the pictures (default: estimated); of an
            interpolation, where the walk takes place.
        sigmas: Levels of the loop, descending; default: ``num_steps`` of the model's grid, of
            stroke-guided editing 5.38 and 2.24.
        num_steps: Number of levels where ``sigmas`` is not given.
        sigma_max: The highest of them; default: the model's.
        sigma_min: The lowest of them; default: the model's.
        num_resamples: Visits of each level, see :func:`~mmagic_cm.editing.loop.edit`.
        labels: Of a conditional model, as :func:`~mmagic_cm.sampling.choose_labels` takes them:
            one for all, one for each picture, or drawn from the seed. Of an interpolation the two
            of its ends, between which the label changes midway.
        seed: Candidate k of picture i depends on (seed, i, k) and the label alone.
        num_candidates: Results for each picture; default 4. Of an interpolation the pictures of
            the walk; default 8. Denoising has one result, since nothing is drawn.
        teacher: Of an interpolation between pictures: a diffusion model D(x, sigma, labels).
        batch_size: Pictures at a time; changes nothing but speed and memory.
        progress: Show a bar.

    Returns:
        What became of each picture; of an interpolation one item.

    Raises:
        InputError: Unknown task; pictures, masks, labels or settings that do not fit.
    """
    if task not in TASKS:
        raise InputError(f'Unknown task {task!r}.{closest(task, TASKS)}')
    for name, value in dict(batch_size=batch_size, num_candidates=num_candidates).items():
        if value is not None and value < 1:
            raise InputError(f'{name} must be at least 1, not {value}.')
    seed = check_seed(seed)
    channels, size, _ = model.image_shape
    inputs = [picture_to_tensor(p, channels, f'picture {i}') for i, p in enumerate(pictures)]
    if masks and task != 'inpainting':
        raise InputError(f'A mask is for inpainting; {task} takes none.')
    if task == 'interpolation':
        return [_walk(model, inputs, sigma, labels, seed, num_candidates or 8, teacher)]
    if not inputs:
        raise InputError(f'{task} needs at least one picture.')
    kind = _TASKS[task]
    masks = _masks(masks, inputs) if kind.needs_mask else [None] * len(inputs)
    if kind.takes_small:
        grow = PatchMean(factor).enlarge
        small = [max(x.shape[1:]) * factor <= size for x in inputs]
        inputs = [grow(x[None])[0] if s else x for x, s in zip(inputs, small, strict=True)]
    # A conditional model that is told nothing takes one class at random for each picture.
    chosen = choose_labels(model, range(len(inputs)), labels, seed)
    fits = [Fit(*x.shape[1:], size) for x in inputs]
    if not sigmas:
        sigmas = kind.levels or levels_of(model.denoiser, num_steps, sigma_max, sigma_min)
    count = 1 if kind.one_evaluation else num_candidates or 4
    jobs = [(i, k) for i in range(len(inputs)) for k in range(count)]
    single = len(jobs) <= batch_size
    results: list[list[torch.Tensor]] = [[] for _ in inputs]
    with (
        tqdm(total=len(jobs), desc=task, unit='image', disable=single or not progress) as bar,
        _denoiser_of(model) as denoiser,
    ):
        for begin in range(0, len(jobs), batch_size):
            batch = jobs[begin : begin + batch_size]
            which = [i for i, _ in batch]
            image = torch.stack([fits[i].into(inputs[i]) for i in which]).to(model.device)
            of_batch = None if chosen is None else chosen[which]
            if kind.one_evaluation:
                found = denoise_image(denoiser, image, sigma, labels=of_batch, seed=seed)
            else:
                known = None
                if kind.needs_mask:
                    known = torch.stack([fits[i].mask_into(masks[i]) for i in which])
                found = edit(
                    denoiser,
                    kind.operator(known, factor),
                    image,
                    sigmas=sigmas,
                    noise=PerSampleNoise(seed, [derive_seed(*job) for job in batch]),
                    labels=of_batch,
                    num_resamples=num_resamples,
                    progress=progress and single,
                )
            for i, picture in zip(which, found.cpu(), strict=True):
                results[i].append(picture)
            bar.update(len(batch))
    return [
        _finish(kind, factor, *parts) for parts in zip(inputs, masks, fits, results, strict=True)
    ]


def _masks(masks: Sequence[Picture], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    if len(masks) not in (1, len(inputs)):
        raise InputError(
            f'inpainting takes one mask for all pictures, or one for each of the {len(inputs)}, '
            f'not {len(masks)}: a picture of the same size, white where it is kept.'
        )
    masks = list(masks) if len(masks) == len(inputs) else [masks[0]] * len(inputs)
    return [
        mask_to_tensor(mask, picture, f'mask {i}')
        for i, (mask, picture) in enumerate(zip(masks, inputs, strict=True))
    ]


@contextmanager
def _denoiser_of(model: ConsistencyModel) -> Iterator[Denoiser]:
    """The model's denoiser as it samples, which knows its levels even where it is guided."""
    with model.sampling_denoiser() as denoiser:
        for name in ('sigma_min', 'sigma_max', 'rho'):
            setattr(denoiser, name, getattr(model.denoiser, name))
        yield denoiser


def _finish(
    kind: Task,
    factor: int,
    image: torch.Tensor,
    mask: torch.Tensor | None,
    fit: Fit,
    results: list[torch.Tensor],
) -> Edited:
    """Fit results (C, size, size) back, and put in what is known of the picture at its own size."""
    operator = kind.operator(None if mask is None else mask[None], factor)
    found = torch.stack([fit.back(x) for x in results])
    image = image[None].expand_as(found)
    if operator.pointwise:
        found = operator.replace(found, operator.measure(image))
        found = into_gamut(operator, found, image)
        degraded = operator.show(image)[0]
    else:
        degraded = fit.back(operator.show(fit.into(image[0])[None])[0])
    shown = dict(input=_to_array(image[0]))
    if kind.degrades:
        shown['degraded'] = _to_array(degraded)
    return Edited(shown, np.stack([_to_array(x) for x in found]))


def _to_array(picture: torch.Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> uint8 (H, W, C)."""
    return np.ascontiguousarray(to_uint8(picture).permute(1, 2, 0).cpu().numpy())


def _walk(
    model: ConsistencyModel,
    inputs: list[torch.Tensor],
    sigma: float | None,
    labels: Labels,
    seed: int,
    num_images: int,
    teacher: Denoiser | None,
) -> Edited:
    """The interpolation: between two pictures, or between two noises."""
    if len(inputs) not in (0, 2):
        raise InputError(
            f'interpolation takes two pictures, or none for a walk between two noises, not '
            f'{len(inputs)}.'
        )
    # Of one class throughout where none is named.
    chosen = choose_labels(model, [0, 0] if labels is None else [0, 1], labels, seed)
    ends = PerSampleNoise(seed, [0, 1])(torch.empty(2, *model.image_shape, device=model.device))
    settings: dict = dict(sigma=sigma)
    if inputs:
        fits = [Fit(*x.shape[1:], model.image_shape[1]) for x in inputs]
        if teacher is None:
            settings = dict(sigma=sigma or SHARED_NOISE_LEVEL, noise=ends[:1])
        else:
            settings |= dict(teacher=teacher)
        ends = torch.stack([f.into(x) for f, x in zip(fits, inputs, strict=True)]).to(ends)
    with _denoiser_of(model) as denoiser:
        first, last = (
            interpolate(denoiser, ends[:1], ends[1:], num_images, labels=label, **settings)[:, 0]
            for label in ((None, None) if chosen is None else chosen)
        )
    half = num_images // 2
    found = torch.cat([first[: num_images - half], last[num_images - half :]]).cpu()
    shown = {}
    if inputs:
        # Of the first picture's shape throughout.
        shown = dict(first=_to_array(inputs[0]))
        shown['last'] = _to_array(fits[0].back(fits[1].into(inputs[1])))
        found = torch.stack([fits[0].back(x) for x in found])
    return Edited(shown, np.stack([_to_array(x) for x in found]))
