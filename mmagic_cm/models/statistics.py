"""The loss by noise level: where a run learns and where it does not."""

import itertools

import torch


class LossByNoiseLevel:
    """Mean losses in bins of sigma, gathered on the device and read when they are logged.

    Args:
        edges: Bounds between the bins, rising.
    """

    def __init__(self, edges: tuple[float, ...] = (0.1, 1.0, 10.0)) -> None:
        # Letters that MLflow takes, too; in the order of their levels when sorted.
        ends = ['0', *(f'{edge:g}' for edge in edges), 'inf']
        self.names = [f'loss_sigma_{low}-{high}' for low, high in itertools.pairwise(ends)]
        self._bounds = edges
        self._sums: torch.Tensor | None = None

    def update(self, losses: torch.Tensor, sigmas: torch.Tensor) -> None:
        """Add losses (N,) at noise levels (N,), without waiting for the device."""
        if self._sums is None:
            self._edges = torch.tensor(self._bounds, device=losses.device)
            self._sums = torch.zeros(2, len(self.names), device=losses.device)
        bins = torch.bucketize(sigmas, self._edges)
        losses = losses.detach().float()
        self._sums.index_add_(1, bins, torch.stack([losses, torch.ones_like(losses)]))

    def take(self) -> dict[str, float]:
        """Means since the last call, of the bins that were visited. Waits for the device."""
        if self._sums is None:
            return {}
        sums, counts = self._sums.tolist()
        self._sums.zero_()
        rows = zip(self.names, sums, counts, strict=True)
        return {name: total / count for name, total, count in rows if count}
