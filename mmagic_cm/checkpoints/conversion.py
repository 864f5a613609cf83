"""Take in any checkpoint whole, for it to be written in another layout."""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

from ..errors import InputError
from ..registry import DIFFUSION_SAMPLERS, MODELS
from .checkpoint import Checkpoint
from .configs import sampling_config
from .diffusers_pipeline import PipelineSettings, pipeline_settings
from .layouts import NETWORK, average_length, network_weights, without_weights
from .writing import write_diffusers, write_openai, write_ours


@dataclass
class Source:
    """A checkpoint that was read, and what is known about it.

    Attributes:
        path: Where it came from.
        weights: Of the network, by its own names.
        config: The whole config: as given, from inside of the file, or of the released name; None
            where there is none.
        denoiser: Built from it on the meta device: settings and shapes.
        ema: The rate of the average that was chosen, or 'sigma_rel=0.05', or 'target', if any.
        iteration: Of the training, where the file says so.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    config: Config | None
    denoiser: nn.Module | None
    ema: str | float | None
    iteration: int | None

    def sampling_config(self) -> Config:
        """What sampling needs of the config.

        Raises:
            InputError: There is none.
        """
        if self.config is None:
            raise InputError(
                f'{self.path} does not say what model it is of: give its config by --config, a '
                f'file or a released name.'
            )
        return sampling_config(self.config)

    def write_ours(self, path: str | Path) -> None:
        """Write a checkpoint of ours, with the config inside."""
        facts = dict(ema=self.ema, iter=self.iteration)
        known = {key: value for key, value in facts.items() if value is not None}
        write_ours(self.weights, self.sampling_config(), path, **known)

    def write_openai(self, path: str | Path) -> None:
        """Write a file of the paper's code.

        Raises:
            InputError: That code does not know this network.
        """
        if 'input_blocks.0.0.weight' not in self.weights:
            raise InputError(
                f"The paper's code computes an ADMUNet alone, and {self.path} has none."
            )
        if self.denoiser is not None and self.denoiser.c_noise != 'adm':
            raise InputError(
                f"The paper's code tells its network 250 ln sigma, and that of {self.path} wants "
                f'c_noise {self.denoiser.c_noise!r}.'
            )
        if self.denoiser is not None and self.denoiser.network.null_class:
            raise InputError(
                'The paper\'s code does not know "no class": null_class has no layout.'
            )
        write_openai(self.weights, path)

    def pipeline_settings(self) -> PipelineSettings:
        """With which diffusers' ConsistencyModelPipeline draws as the config's sampler does."""
        sampler = self.sampling_config().model.get('sampler') or dict(type='OnestepSampler')
        num_scales = sampler.get('num_scales', 40)
        return pipeline_settings(self.denoiser, DIFFUSION_SAMPLERS.build(sampler), num_scales)

    def write_diffusers(self, folder: str | Path, readme: str | None = None) -> None:
        """Write a folder of a ConsistencyModelPipeline."""
        scheduler = self.pipeline_settings().scheduler
        write_diffusers(self.weights, self.denoiser.network, scheduler, folder, readme)


def read_source(
    path: str | Path, ema: str | float | None = 'auto', config: Config | None = None
) -> Source:
    """Read a checkpoint of any layout.

    Args:
        path: As of :func:`~mmagic_cm.checkpoints.read_checkpoint`.
        ema: As of :func:`~mmagic_cm.checkpoints.select_weights`.
        config: What model it is of; default: what the file itself or its released name says.

    Raises:
        InputError: It cannot be read, or is of another model than the config says.
    """
    checkpoint = Checkpoint(path)
    if config is None and checkpoint.config is not None:
        checkpoint.sampling_config()  # refuses what must not be built
        config = checkpoint.config
    if config is None:
        weights, denoiser = checkpoint.weights(ema), None
    else:
        with without_weights():
            denoiser = MODELS.build(sampling_config(config).model.denoiser)
        weights = checkpoint.fit(nn.ModuleDict(dict(denoiser=denoiser)), ema)
    network = network_weights(weights)
    if not network:
        raise InputError(f'{path} holds no weights with names that are known ({NETWORK}...).')
    if ema == 'auto':
        ema = max(checkpoint.emas, key=average_length, default=checkpoint.meta.get('ema'))
    iteration = checkpoint.meta.get('iter')
    iteration = iteration if isinstance(iteration, int) else None
    return Source(Path(path), network, config, denoiser, ema, iteration)
