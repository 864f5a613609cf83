"""Random draws with an owner: seeds derived from keys, one noise stream a sample or a batch."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch


def derive_seed(*keys: int | str) -> int:
    """A seed that depends on all keys and on nothing else; neighbours are unrelated.

    Example:
        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
        (True, False)
    """
    # numpy's and torch's integers print otherwise than the equal ones of Python.
    plain = tuple(key if isinstance(key, str) else int(key) for key in keys)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1  # torch takes 63 bits everywhere


def to_device(noise: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy from the host; to a GPU out of pinned memory, so that the host does not wait for it."""
    if device.type == 'cuda':
        noise = noise.pin_memory()
    return noise.to(device, non_blocking=True)


class PerSampleNoise:
    """Standard normal noise in which sample i has a stream of its own.

    Streams are made on the CPU, so that image i depends on ``(seed, i)`` alone: not on the batch,
    the number of processes or the device.

    Args:
        seed: Of the whole set of images.
        indices: The number of each sample in the set, (N,).
    """

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        self._generators = [
            torch.Generator().manual_seed(derive_seed(seed, int(index), 'noise'))
            for index in indices
        ]

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        """The next draw of each stream: float32, the shape and device of ``like`` (N, ...)."""
        draws = [torch.randn(like.shape[1:], generator=g) for g in self._generators]
        return to_device(torch.stack(draws), like.device)


class BatchNoise:
    """Standard normal noise of one stream for the whole batch, as most codebases draw it.

    The stream is made on the CPU and depends on ``seed`` and the first of ``indices``: images
    change with the size of their batch.

    Args:
        seed: Of the whole set of images.
        indices: The number of each sample in the set, (N,).
    """

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        first = int(indices[0]) if len(indices) else 0
        self._generator = torch.Generator().manual_seed(derive_seed(seed, first, 'batch noise'))

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        """The next draw: float32, the shape and device of ``like`` (N, ...)."""
        return to_device(torch.randn(like.shape, generator=self._generator), like.device)


@contextlib.contextmanager
def seeded_globals(seed: int, device: torch.device) -> Iterator[None]:
    """Run with torch's global generators of the CPU and of ``device`` seeded; restored afterwards.

    Dropout has no generator argument: this is how online and target network get the same masks.
    """
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        for cuda in devices:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        yield
