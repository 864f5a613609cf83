"""What MMEngine's Runner asks of a model."""

from typing import Any

import torch
from torch import nn


class Trainable(nn.Module):
    """The steps of training and testing, as MMEngine's ``BaseModel`` has them.

    (Importing that one takes a second, for FSDP, distributed tensors and transformers.)

    Args:
        data_preprocessor: Turns what a data loader gives into the arguments of ``forward``; ours
            or one of MMEngine's.
    """

    def __init__(self, data_preprocessor: nn.Module) -> None:
        super().__init__()
        self.data_preprocessor = data_preprocessor

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        # Preprocessors have no parameters by which a move would reach them.
        self.data_preprocessor._device = self.device
        return self

    def train_step(self, data: dict, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """One step of the optimizer.

        Returns:
            Figures for the log.
        """
        with optim_wrapper.optim_context(self):
            losses = self(**self.data_preprocessor(data, True), mode='loss')
        loss, figures = self.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return figures

    def val_step(self, data: dict) -> list:
        """What the model draws for a batch of the data set."""
        return self(**self.data_preprocessor(data, False), mode='predict')

    test_step = val_step

    def parse_losses(
        self, losses: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sum of all that have ``loss`` in their name, and the means of all for the log."""
        means = {name: value.mean() for name, value in losses.items()}
        total = sum(mean for name, mean in means.items() if 'loss' in name)
        figures = {'loss': total, **means}
        return total, {name: figure.detach() for name, figure in figures.items()}
