"""What the first tab does when its button is pressed: two samplers, from the same noise."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..diffusion.noise import BatchNoise, PerSampleNoise
from ..diffusion.samplers import DiffusionSampler
from ..errors import InputError
from ..io.images import make_grid, save_image, save_images, save_npz
from ..models.consistency_model import ConsistencyModel
from ..registry import DIFFUSION_SAMPLERS
from ..sampling.choice import sampler_names, sampler_type
from ..sampling.loop import choose_labels, iter_samples
from .events import Stopped, Watch

OWN = "the model's own"
NOISE = {'one stream an image': PerSampleNoise, 'one stream for the batch': BatchNoise}


def settings_of(kind: str) -> Collection[str]:
    """Names of the settings that a kind of sampler has; none of the model's own."""
    if kind == OWN:
        return ()
    return inspect.signature(DIFFUSION_SAMPLERS.get(sampler_type(kind))).parameters


def make_sampler(
    model: ConsistencyModel,
    kind: str = OWN,
    num_levels: int = 2,
    levels: str = '',
    num_steps: int = 18,
    churn: float = 0.0,
) -> DiffusionSampler:
    """The sampler that the page's controls say, at the noise levels of a model.

    Args:
        model: Says the range of levels.
        kind: As :func:`~mmagic_cm.sampling.choice.sampler_type` takes it, or ``OWN``.
        num_levels: Of multistep: noise levels, one network evaluation each.
        levels: Of multistep: the noise levels themselves, such as '80, 1.3'; empty: as many of the
            Karras grid as ``num_levels`` says.
        num_steps: Of those that walk down the grid.
        churn: Of those that can add noise on the way: how much.

    Raises:
        InputError: An unknown kind, or levels that do not fit it.
    """
    if kind == OWN:
        return model.sampler
    known = settings_of(kind)
    settings = dict(num_steps=int(num_steps), s_churn=float(churn))
    if levels.strip():
        settings |= dict(sigmas=parse_levels(levels))
    else:  # the last one is the picture, and not evaluated
        settings |= dict(ts=range(int(num_levels) + 1), num_scales=int(num_levels) + 1)
    settings = {name: value for name, value in settings.items() if name in known}
    return model.sampler_for(dict(type=sampler_type(kind), **settings))


def parse_levels(text: str) -> list[float]:
    """'80, 1.3' -> [80.0, 1.3].

    Raises:
        InputError: It is no list of numbers.
    """
    try:
        return [float(part) for part in text.split(',')]
    except ValueError as error:
        raise InputError(f'Noise levels are numbers such as 80, 1.3, not {text!r}.') from error


@dataclass(frozen=True)
class Sampled:
    """A set of images, and what it cost.

    Attributes:
        images: uint8 (N, H, W, C); fewer than were asked for where it was stopped.
        labels: int64 (N,), or None of an unconditional model.
        sampler: By which they were drawn.
        evaluations: Of the network, an image.
        seconds: An image.
        is_whole: Nobody has stopped it.
    """

    images: np.ndarray
    labels: np.ndarray | None
    sampler: DiffusionSampler
    evaluations: float
    seconds: float
    is_whole: bool

    def save(self, folder: Path) -> tuple[list[Path], Path, Path]:
        """Write the images one by one, as a grid and as an npz; returns where they are."""
        save_images(self.images, folder / 'images')
        columns = int(np.ceil(len(self.images) ** 0.5))
        grid = save_image(make_grid(self.images, columns), folder / 'samples.png')
        save_npz(self.images, self.labels, folder / 'samples.npz')
        return sorted((folder / 'images').iterdir()), grid, folder / 'samples.npz'


def sample(
    model: ConsistencyModel,
    num_images: int,
    labels: str | None,
    sampler: DiffusionSampler,
    *,
    seed: int = 0,
    batch_size: int = 64,
    noise: str = 'one stream an image',
    dropout: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda evaluations: None,
) -> Sampled:
    """Draw images until they are all there or somebody stops it.

    Args:
        model: From :func:`~mmagic_cm.apis.init_model`.
        num_images: How many.
        labels: As :func:`~mmagic_cm.sampling.loop.choose_labels` takes them.
        sampler: What draws them.
        seed: Of the set of images.
        batch_size: Images at a time.
        noise: One of ``NOISE``.
        dropout: Keep dropout.
        is_stopped: Asked before each network evaluation.
        report: Told before each network evaluation how many images went through the network.

    Raises:
        InputError: Settings that do not fit.
    """
    indices = range(num_images)
    chosen = choose_labels(model, indices, labels, seed)
    images, is_whole = [np.empty((0, *model.image_shape), np.uint8)], True
    with Watch(model, is_stopped, report) as watch:
        batches = iter_samples(
            model, indices, chosen, sampler, seed, batch_size, noise=NOISE[noise], dropout=dropout
        )
        try:
            for batch in batches:
                images.append(batch.cpu().numpy())
        except Stopped:
            is_whole = False
    found = np.concatenate(images).transpose(0, 2, 3, 1)
    count = max(1, len(found))
    return Sampled(
        images=np.ascontiguousarray(found),
        labels=None if chosen is None else chosen[: len(found)].numpy(),
        sampler=sampler,
        evaluations=watch.evaluations / count,
        seconds=watch.seconds / count,
        is_whole=is_whole,
    )


def name_of(sampler: DiffusionSampler) -> str:
    """What to call a sampler in a table: 'multistep at 80, 1.3', 'heun, 18 steps'."""
    names = {registered: name for name, registered in sampler_names().items()}
    name = names.get(type(sampler).__name__, type(sampler).__name__)
    if hasattr(sampler, 'sigmas'):
        return f'{name} at {", ".join(f"{sigma:.3g}" for sigma in sampler.sigmas)}'
    if hasattr(sampler, 'num_steps'):
        return f'{name}, {sampler.num_steps} steps'
    return name


def table(results: list[Sampled], device: torch.device) -> str:
    """Markdown: what each sampler cost."""
    lines = ['| | sampler | network evaluations an image | time an image |', '|---|---|---|---|']
    for letter, drawn in zip('AB', results, strict=False):
        cost = f'{drawn.evaluations:.4g} | {drawn.seconds * 1e3:.3g} ms'
        if not drawn.is_whole:  # part of the work was thrown away
            cost = f'stopped after {len(drawn.images)} images | '
        lines.append(f'| {letter} | {name_of(drawn.sampler)} | {cost} |')
    return '\n'.join([*lines, '', f'Measured on this {device.type.upper()}.'])
