"""The frozen denoiser that a distillation learns from."""

import copy

import torch
from torch import nn

from ..checkpoints import Checkpoint
from ..errors import InputError
from ..registry import MODELS
from .denoiser import EDMParameterization, KarrasDenoiser


@MODELS.register_module()
class Teacher(nn.Module):
    """A denoiser D(x, sigma, labels) that does not learn, in evaluation mode.

    (An objective may want its dropout, see
    :class:`~mmagic_cm.objectives.base.Objective.teacher_dropout`.)

    Args:
        student: The denoiser that learns from it.
        checkpoint: File of its weights, in any layout that is read.
        ema: Which weights of a training checkpoint, see
            :func:`~mmagic_cm.checkpoints.select_weights`.
        denoiser: Config of a denoiser that differs from the student's; default: the student's
            network in EDM's parameterization.
        from_stage: In a run of stages: it is the averaged network of the stage before, in the
            student's own parameterization; ``StageHook`` hands it on.

    Attributes:
        ready: Whether it has weights that were trained.
    """

    def __init__(
        self,
        student: KarrasDenoiser,
        checkpoint: str | None = None,
        ema: str | float | None = 'auto',
        denoiser: dict | None = None,
        from_stage: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.ema = ema
        self.from_stage = from_stage
        self.ready = not from_stage
        if denoiser is None:
            self.denoiser = copy.deepcopy(student)
            if not from_stage:
                self.denoiser.parameterization = EDMParameterization(student.sigma_data)
        else:
            self.denoiser = MODELS.build(denoiser)
        self.requires_grad_(False).eval()

    def load(self) -> None:
        """Read the checkpoint, unless a stage is to be the teacher.

        Raises:
            InputError: There is none, or it does not fit.
        """
        if self.from_stage:
            return
        if self.checkpoint is None:
            raise InputError(
                'A distillation needs a trained teacher: give its file as '
                '--cfg-options model.teacher.checkpoint=FILE.'
            )
        self.load_state_dict(Checkpoint(self.checkpoint).fit(self, self.ema))

    def become(self, student: KarrasDenoiser) -> None:
        """Take over the student's weights, at the end of a stage."""
        self.denoiser.load_state_dict(student.state_dict())
        self.ready = True

    def _cast(self, dtype: torch.dtype) -> None:
        """Keep in half precision what autocast would cast at every call: it does not learn."""
        network = self.denoiser.network
        if hasattr(network, 'cast') and network.dtype is not dtype:
            with torch.inference_mode(False):
                network.cast(dtype)

    def forward(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        labels: torch.Tensor | None = None,
        **conditions: torch.Tensor,
    ) -> torch.Tensor:
        """Denoise (N, C, H, W) at levels (N,)."""
        if not self.ready:
            raise InputError(
                'The teacher is to be the network of a stage before this one: there must be one, '
                "and dict(type='StageHook') among custom_hooks."
            )
        if torch.is_autocast_enabled(x.device.type):
            self._cast(torch.get_autocast_dtype(x.device.type))
        return self.denoiser(x, sigma, labels, **conditions)
