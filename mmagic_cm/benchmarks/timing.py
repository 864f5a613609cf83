"""Seconds: of calls that take turns, and of the parts of a step."""

import resource
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from tqdm import tqdm

from ..engine.hooks.run_summary import now


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int = 5,
    warmup: int = 1,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Seconds of each call, round by round; a drift of the machine hits all that take turns.

    Args:
        calls: By name.
        device: Where they compute.
        repeats: Measured rounds.
        warmup: Rounds before, which are not counted.
        progress: Show a bar.
    """
    seconds = defaultdict(list)
    with tqdm(total=(warmup + repeats) * len(calls), desc='measuring', disable=not progress) as bar:
        for turn in range(warmup + repeats):
            for name, call in calls.items():
                start = now(device)
                call()
                if turn >= warmup:
                    seconds[name].append(now(device) - start)
                bar.update()
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each call's seconds."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def speedups(seconds: Mapping[str, Sequence[float]], of: str = 'ours') -> dict[str, float]:
    """How many times as fast one call is as each of the others: medians of the rounds' ratios."""
    return {
        name: statistics.median(b / a for a, b in zip(seconds[of], values, strict=True))
        for name, values in seconds.items()
        if name != of
    }


def peak_memory(device: torch.device) -> float:
    """GiB: of a GPU, what torch held at most; of a CPU, what the whole process did."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Parts:
    """Seconds of the parts of a step, summed over steps.

    Args:
        device: Where they compute; each part waits for it, which costs a little on a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def clear(self) -> None:
        """Forget what was measured."""
        self.seconds.clear()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        start = now(self.device)
        yield
        self.seconds[name] += now(self.device) - start

    def wrap(self, name: str | Callable[[], str], function: Callable) -> Callable:
        """The function, whose calls are added to a part; the name may depend on the moment."""

        def measured(*args, **kwargs):
            with self.measure(name if isinstance(name, str) else name()):
                return function(*args, **kwargs)

        return measured
