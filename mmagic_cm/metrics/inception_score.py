"""Inception Score (arXiv:1606.03498) as OpenAI's evaluator computes it, in float64."""

from typing import NamedTuple

import numpy as np
import torch

from ..io.devices import choose_device
from .arrays import as_tensor


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits."""

    mean: float
    std: float


def inception_score(
    logits: np.ndarray | torch.Tensor,
    split_size: int = 5000,
    device: str | torch.device | None = None,
) -> InceptionScore:
    """``exp(E_x KL(p(y | x) || p(y)))``, the mean over splits.

    Args:
        logits: (N, K), without the bias of the last layer, as OpenAI's evaluator takes them.
        split_size: Images a split, in the order in which they come. The last split may have
            fewer and counts like the others: N should be a multiple, or less.
        device: Where to compute. Defaults to a GPU where there is one.

    Returns:
        Scores between 1 and K.

    Raises:
        InputError: Another shape, or numbers that are not finite.
    """
    logits = as_tensor(logits, 'logits')
    device = choose_device(device)
    scores = [_score(split.to(device, torch.float64)) for split in logits.split(split_size)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: torch.Tensor) -> float:
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    # Summed in logarithms: a class that no image has a chance of adds 0, not 0 * log 0.
    log_mean = log_p.logsumexp(0) - np.log(len(log_p))
    return float((p * (log_p - log_mean)).sum(1).mean().exp())
