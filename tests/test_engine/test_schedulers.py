"""Learning rates over a run."""

import pytest
import torch
from torch import nn

from mmagic_cm.registry import PARAM_SCHEDULERS


def rates(steps: int, decay_after: int, resume_at: int | None = None) -> list[float]:
    """The rates of these steps, of a schedule that is saved and read again at one of them."""

    def build():
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        cfg = dict(type='InverseSqrtLR', decay_after=decay_after, by_epoch=False)
        return optimizer, PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=optimizer))

    optimizer, schedule = build()
    found = []
    for step in range(steps):
        if step == resume_at:
            saved = optimizer.state_dict(), schedule.state_dict()
            optimizer, schedule = build()
            for part, state in zip((optimizer, schedule), saved, strict=True):
                part.load_state_dict(state)
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    return found


def test_a_rate_that_falls_as_one_over_the_root():
    expected = [0.1 / max(step / 9, 1) ** 0.5 for step in range(40)]
    assert rates(40, decay_after=9) == pytest.approx(expected)
    assert expected[36] == pytest.approx(0.05)
    assert rates(40, decay_after=9, resume_at=20) == rates(40, decay_after=9)
