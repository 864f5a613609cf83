"""Averages chosen after the training (EDM2, arXiv:2312.02696, section 3 and appendix C).

Such an average weights the parameters of a time s by s^gamma, so that at any time t it reaches back
over the same share of the training; ``sigma_rel``, the standard deviation of that profile over t,
names it. From snapshots of two of them any other can be put together. Times count images or
optimizer steps: only their ratios matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..checkpoints import Checkpoint
from ..errors import InputError

FOLDER = 'snapshots'  # in the work directory of a run
# The widths of which two averages, of 0.05 and 0.10, tell well.
RELIABLE = (0.05, 0.15)


@lru_cache
def sigma_rel_to_gamma(sigma_rel: float) -> float:
    """The exponent gamma >= 0 of a profile of this relative width.

    Raises:
        InputError: There is none: ``sigma_rel`` is not above 0 and below 0.289.
    """
    if not 0 < sigma_rel <= 12**-0.5:
        raise InputError(f'sigma_rel must be above 0 and below 0.289, not {sigma_rel}.')
    # sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    square = float(sigma_rel) ** -2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


def power_beta(sigma_rel: float, t: float, delta: float) -> float:
    """The rate of the average's step to time t, delta after the one before; 0 at the first."""
    return (1 - delta / t) ** (sigma_rel_to_gamma(sigma_rel) + 1)


def profile_overlap(t_a: float, sigma_a: float, t_b: float, sigma_b: float) -> float:
    """The inner product of two profiles, of averages at times t_a and t_b."""
    a, b = sigma_rel_to_gamma(sigma_a), sigma_rel_to_gamma(sigma_b)
    exponent = b if t_a < t_b else -a
    return (a + 1) * (b + 1) * (t_a / t_b) ** exponent / ((a + b + 1) * max(t_a, t_b))


def posthoc_coefficients(
    snapshots: Sequence[tuple[float, float]], target: tuple[float, float]
) -> np.ndarray:
    """How much of each snapshot makes the average that is nearest to another.

    Args:
        snapshots: (time, sigma_rel) of the averages that were kept.
        target: (time, sigma_rel) of the wanted one.

    Returns:
        float64 (snapshots,), of sum 1; snapshots later than the target have no part in it.

    Raises:
        InputError: All of them are later.
    """
    used = [i for i, (t, _) in enumerate(snapshots) if t <= target[0]]
    if not used:
        raise InputError(f'There is no snapshot up to time {target[0]:g}.')
    kept = [snapshots[i] for i in used]
    overlaps = np.array([[profile_overlap(*a, *b) for b in kept] for a in kept])
    solved = np.linalg.solve(overlaps, [profile_overlap(*a, *target) for a in kept])
    coefficients = np.zeros(len(snapshots))
    coefficients[used] = solved / solved.sum()
    return coefficients


@dataclass(frozen=True)
class Snapshot:
    """A file with one average of a run, at one time.

    Attributes:
        path: The file.
        step: Optimizer steps done.
        sigma_rel: Of the average.
    """

    path: Path
    step: int
    sigma_rel: float


def snapshot_path(work_dir: str | Path, step: int, sigma_rel: float) -> Path:
    """Where a run keeps the snapshot of a time and a width."""
    return Path(work_dir) / FOLDER / f'{step}_{sigma_rel:g}.safetensors'


def find_snapshots(work_dir: str | Path) -> list[Snapshot]:
    """The snapshots of a run, in the order of time.

    Raises:
        InputError: There are none.
    """
    found = []
    for path in (Path(work_dir) / FOLDER).glob('[0-9]*_[0-9]*.safetensors'):
        step, sigma_rel = path.stem.split('_')
        found.append(Snapshot(path, int(step), float(sigma_rel)))
    if not found:
        raise InputError(
            f'{Path(work_dir) / FOLDER} holds no snapshots: train with '
            f"dict(type='EMAHook', sigma_rels=(0.05, 0.10), snapshot_interval=...)."
        )
    return sorted(found, key=lambda snapshot: (snapshot.step, snapshot.sigma_rel))


@torch.inference_mode()
def reconstruct(snapshots: Iterable[Snapshot], sigma_rel: float) -> dict[str, torch.Tensor]:
    """Another average at the time of the last snapshot, read from one file after the other.

    Args:
        snapshots: Of one run, see :func:`find_snapshots`.
        sigma_rel: Of the wanted average.

    Returns:
        The weights by the names in the files.
    """
    snapshots = list(snapshots)
    times = [(snapshot.step, snapshot.sigma_rel) for snapshot in snapshots]
    end = max(snapshot.step for snapshot in snapshots)
    total: dict[str, torch.Tensor] = {}
    coefficients = posthoc_coefficients(times, (end, sigma_rel))
    for snapshot, share in zip(snapshots, coefficients, strict=True):
        for name, weight in Checkpoint(snapshot.path).weights(None).items():
            # Coefficients of either sign cancel: more digits than the weights have themselves.
            part = weight.double() * share
            total[name] = total[name].add_(part) if name in total else part
    return {name: weight.float() for name, weight in total.items()}
