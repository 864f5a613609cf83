"""Learning rates that MMEngine has no schedule for."""

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from ..registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class InverseSqrtLR(LRSchedulerMixin, _ParamScheduler):
    """A constant rate that falls as 1 / sqrt(step) from a step on (EDM2, arXiv:2312.02696, B.3).

    Args:
        optimizer: The optimizer, or its wrapper.
        decay_after: The step from which on it falls.
        **settings: ``by_epoch`` and the others of MMEngine's schedules.
    """

    def __init__(self, optimizer, decay_after: int, **settings) -> None:
        self.decay_after = decay_after
        super().__init__(optimizer, **settings)

    def _get_value(self):
        decay = (self.decay_after / max(self.last_step, self.decay_after)) ** 0.5
        return [value * decay for value in self.base_values]
