"""The model that MMEngine's Runner trains and that everything else samples from."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.structures import BaseDataElement
from torch import nn

from ..checkpoints import Checkpoint, check_settings, fit_state_dict
from ..diffusion.guidance import drop_labels, guided
from ..diffusion.noise import PerSampleNoise, derive_seed, seeded_globals
from ..diffusion.samplers import DiffusionSampler, Noise
from ..diffusion.solvers import per_sample
from ..errors import InputError
from ..io.images import to_uint8
from ..networks import check_network
from ..objectives.base import Objective, WithFrozen
from ..registry import DIFFUSION_SAMPLERS, MODELS, resolve
from .denoiser import KarrasDenoiser
from .statistics import LossByNoiseLevel
from .teacher import Teacher
from .trainable import Trainable

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is: what the random draws and the curriculum of an iteration depend on.

    Attributes:
        seed: Of the run.
        iteration: Batches seen.
        step: Optimizer steps done; fewer than batches where gradients are accumulated.
        total_steps: Optimizer steps of the whole run.
    """

    seed: int
    iteration: int
    step: int
    total_steps: int


@MODELS.register_module()
class ConsistencyModel(WithFrozen, Trainable):
    """A denoiser with what trains it and what samples from it.

    Args:
        denoiser: Config of a :class:`KarrasDenoiser`, or the object.
        sampler: Config of the default sampler; default one step.
        objective: Config of what training minimises; absent in inference configs.
        init_from: A checkpoint from which online and target network start (its longest EMA), or
            'teacher': the teacher's.
        teacher: Of a distillation: ``dict(checkpoint=FILE, ...)`` or ``dict(from_stage=True)``,
            see :class:`Teacher`.
        label_dropout: Share of the labels that training replaces by "no class"; the network needs
            ``null_class``.
        guidance_scale: Of sampling, see :func:`~mmagic_cm.diffusion.guidance.guided`; None: none.
        data_preprocessor: Config; default :class:`DataPreprocessor`.
        channels_last: Keep weights, and so activations, in that order of memory: faster for all
            but tiny networks.

    Attributes:
        denoiser: The online network in its preconditioning, D(x, sigma, labels).
        target: Its target network, where the objective needs one.
        teacher: What is distilled, frozen, see
            :class:`~mmagic_cm.objectives.base.WithFrozen`.
        sampler: The default sampler.
        guidance_scale: As given; may be set at any time.
        precision: 'fp32', 'bf16' or 'fp16': what the network samples in.
        memory_format: Of the weights.
        sampling_seed: Of the set of images that ``mode='predict'`` draws from; may be set.
        progress: Set before each iteration by ``CurriculumHook``.
        loss_by_noise_level: Read by ``TrainingInfoHook``.
    """

    def __init__(
        self,
        denoiser: dict | KarrasDenoiser,
        sampler: dict | DiffusionSampler | None = None,
        objective: dict | Objective | None = None,
        init_from: str | None = None,
        teacher: dict | None = None,
        label_dropout: float = 0.0,
        guidance_scale: float | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        channels_last: bool = True,
    ) -> None:
        denoiser = resolve(MODELS, denoiser)
        network = denoiser.network
        check_network(network)
        if data_preprocessor is None:
            data_preprocessor = dict(type='DataPreprocessor')
        if isinstance(data_preprocessor, dict):
            fitting = dict(
                num_classes=network.num_classes,
                channels=network.in_channels,
                image_size=network.image_size,
            )
            data_preprocessor = MODELS.build({**fitting, **data_preprocessor})
        super().__init__(data_preprocessor)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        # Before optimizer, averages and DistributedDataParallel take over the order of memory.
        self.denoiser = denoiser.to(memory_format=self.memory_format)
        objective = resolve(MODELS, objective)
        self.objective = None if objective is None else objective.within(denoiser)
        self.sampler = self.sampler_for(sampler or 'OnestepSampler')
        self.init_from = init_from
        if label_dropout and not self.null_class:
            raise InputError('label_dropout needs null_class=True in the network.')
        self.label_dropout = label_dropout
        self.guidance_scale = guidance_scale
        self.precision = 'fp32'
        self.sampling_seed = 0
        self.progress: TrainingProgress | None = None
        self.loss_by_noise_level = LossByNoiseLevel()
        self.target = None
        if self.objective is not None and self.objective.needs_target:
            self.target = copy.deepcopy(denoiser).requires_grad_(False)
        self.frozen = self._build_teacher(teacher)
        self._has_dropout = any(isinstance(m, nn.Dropout) and m.p for m in denoiser.modules())

    def _build_teacher(self, teacher: dict | None) -> list[Teacher]:
        needed = self.objective is not None and self.objective.needs_teacher
        name = type(self.objective).__name__ if self.objective else 'A config for sampling'
        if teacher is None and needed:
            raise InputError(f'{name} needs a teacher: teacher=dict(checkpoint=FILE).')
        if teacher is not None and not needed:
            raise InputError(f'{name} does not use the given teacher.')
        if self.init_from == 'teacher' and not needed:
            raise InputError(f"{name} has no teacher for init_from='teacher'.")
        if not needed:
            return []
        built = MODELS.build(dict(type='Teacher', student=self.denoiser, **teacher))
        return [built.to(memory_format=self.memory_format)]

    @property
    def teacher(self) -> Teacher | None:
        """What is distilled."""
        return next((part for part in self.frozen if isinstance(part, Teacher)), None)

    def sampler_for(self, sampler: str | dict | DiffusionSampler | None) -> DiffusionSampler:
        """A sampler by name, config or object for this denoiser's noise range; None: the own one.

        Raises:
            InputError: Its levels are not within that range.
        """
        return resolve(DIFFUSION_SAMPLERS, sampler or self.sampler).within(self.denoiser)

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional network, None of an unconditional one."""
        return self.denoiser.network.num_classes

    @property
    def null_class(self) -> bool:
        """Whether the network knows "no class", as label -1."""
        return getattr(self.denoiser.network, 'null_class', False)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        network = self.denoiser.network
        return network.in_channels, network.image_size, network.image_size

    def init_weights(self) -> None:
        """Read teacher, perceptual network and ``init_from``; MMEngine calls it before it resumes.

        Raises:
            InputError: A file is missing or does not fit.
        """
        if self.objective is not None:
            self.objective.prepare()
        if self.teacher is not None:
            self.teacher.load()
        if self.init_from == 'teacher':
            self.load_state_dict(dict(self.teacher.state_dict()))
        elif self.init_from is not None:
            self.load_weights(self.init_from)

    def load_weights(
        self,
        checkpoint: str | Path | Checkpoint,
        ema: str | float | None = 'auto',
        assign: bool = False,
    ) -> None:
        """Load a checkpoint.

        Args:
            checkpoint: Whatever :class:`~mmagic_cm.checkpoints.Checkpoint` opens, or an opened one.
            ema: As :func:`~mmagic_cm.checkpoints.select_weights` has it.
            assign: Let the file's tensors, whatever their type, become the parameters, instead of
                copying them into those that are there. They are mapped from the file: copy them.

        Raises:
            InputError: The file cannot be read or does not fit; nothing is loaded then.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        self.load_state_dict(checkpoint.fit(self, ema), assign=assign)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        # MMEngine and MMagic load with strict=False: here every loader is made strict.
        weights = {key.removeprefix(prefix): value for key, value in state_dict.items()}
        fit_state_dict(weights, self.state_dict())
        check_settings(local_metadata, self.denoiser.network)
        state_dict.clear()
        state_dict.update({prefix + key: value for key, value in weights.items()})
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(
        self,
        inputs: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        indices: Sequence[int] | None = None,
        data_samples: list[dict] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, torch.Tensor] | list[BaseDataElement] | torch.Tensor:
        """MMEngine's three modes.

        Args:
            inputs: float32 (N, C, H, W) in [-1, 1], from the data preprocessor; not needed to
                predict where there are ``indices``.
            labels: int64 (N,) of a conditional network.
            indices: Numbers of the images to draw, for ``mode='predict'``; default 0 .. N - 1.
            data_samples: MMagic's, into which the images go, for its metrics.
            mode: 'loss' (one training step's losses), 'predict' (draw the images of these numbers,
                or as many as ``inputs`` holds, of these labels), 'tensor' (denoise ``inputs``
                once, at ``sampler.sigma_max``).
        """
        if inputs is None and (mode != 'predict' or indices is None):
            raise InputError(f'mode={mode!r} needs inputs; only predicting does with indices.')
        if mode == 'loss':
            return self.loss(inputs, labels)
        if mode == 'predict':
            indices = range(len(inputs)) if indices is None else indices
            return self.predict(indices, labels, data_samples)
        if mode == 'tensor':
            return self.denoiser(inputs, per_sample(self.sampler.sigma_max, inputs), labels)
        raise InputError(f"mode must be 'loss', 'predict' or 'tensor', not {mode!r}.")

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """The objective's mean loss on a batch of clean images."""
        if self.objective is None:
            raise InputError('This config has no objective: it is for sampling, not for training.')
        if self.progress is None:
            raise InputError("Training needs dict(type='CurriculumHook') among custom_hooks.")
        now = self.progress
        seed, masks = (
            derive_seed(now.seed, get_rank(), now.iteration, use) for use in ('training', 'dropout')
        )
        generator = torch.Generator(inputs.device).manual_seed(seed)
        draw = self.objective.draw(inputs, now.step, now.total_steps, generator)
        if self.label_dropout and labels is not None:
            labels = drop_labels(labels, self.label_dropout, generator)
        target = self.target and partial(self._denoise_with_masks, self.target, masks)
        online = partial(self._denoise_with_masks, self.denoiser, masks)
        teacher = self.teacher
        if teacher is not None:
            dropout = self.objective.at_work(now.step, now.total_steps)[0].teacher_dropout
            if teacher.training != dropout:
                teacher.train(dropout)
            if dropout:
                teacher = partial(self._denoise_with_masks, teacher, masks)
        losses = self.objective(online, inputs, draw, labels, target=target, teacher=teacher)
        self.loss_by_noise_level.update(losses, draw.sigma)
        return dict(loss=losses.mean(), **self.objective.figures)

    def _denoise_with_masks(
        self, denoiser: Callable, seed: int, x: torch.Tensor, *inputs: torch.Tensor, **conditions
    ) -> torch.Tensor:
        """Denoise with the dropout masks of this seed: the same for all networks that have any."""
        with seeded_globals(seed, x.device) if self._has_dropout else nullcontext():
            return denoiser(x, *inputs, **conditions)

    def predict(
        self,
        indices: Sequence[int],
        labels: torch.Tensor | None,
        data_samples: list[dict] | None = None,
    ) -> list[BaseDataElement] | list[dict]:
        """Draw images with the default sampler and ``sampling_seed``.

        Returns:
            One element an image, with ``image`` uint8 (C, H, W), and ``label`` of a conditional
            model; or MMagic's ``data_samples`` with ``fake_img``, the same as BGR.
        """
        images = self.sample(indices, labels, seed=self.sampling_seed)
        if data_samples is not None:
            pairs = zip(data_samples, images, strict=True)
            return [dict(sample, fake_img=image.flip(0)) for sample, image in pairs]
        labels = [None] * len(images) if labels is None else labels.tolist()
        return [
            BaseDataElement(image=image)
            if label is None
            else BaseDataElement(image=image, label=label)
            for image, label in zip(images, labels, strict=True)
        ]

    @torch.inference_mode()
    def sample(
        self,
        indices: Sequence[int],
        labels: torch.Tensor | None = None,
        sampler: DiffusionSampler | None = None,
        seed: int = 0,
        progress: bool = False,
        noise: Callable[[int, Sequence[int]], Noise] = PerSampleNoise,
        dropout: bool = False,
    ) -> torch.Tensor:
        """Draw one batch of images.

        Args:
            indices: Numbers of the images, (N,): image i depends on (seed, i, its label) alone.
            labels: int64 (N,), exactly where the network is conditional.
            sampler: Default: the model's own.
            seed: Of the set of images.
            progress: Show a bar over the steps.
            noise: Makes the noise of the batch from ``seed`` and ``indices``: one stream an image,
                or :class:`~mmagic_cm.diffusion.noise.BatchNoise`.
            dropout: Keep dropout as in training, with masks from ``seed`` and the first of
                ``indices``. Like ``BatchNoise`` it makes images depend on their batch.

        Returns:
            uint8 (N, C, H, W), on the device of the model.

        Raises:
            InputError: ``dropout`` of a network that has none; images that are not finite.
        """
        sampler = self.sampler_for(sampler)
        draw = noise(seed, indices)
        start = draw(torch.empty(len(indices), *self.image_shape, device=self.device))
        if labels is not None:
            labels = labels.to(self.device)
        masks = derive_seed(seed, indices[0], 'dropout') if dropout else None
        with self.sampling_denoiser(masks) as denoiser:
            images = sampler(
                lambda x, sigma, **conditions: denoiser(x, sigma, labels, **conditions),
                start * sampler.sigma_max,
                draw,
                progress,
            )
        return to_uint8(images)

    @contextmanager
    def sampling_denoiser(self, dropout_seed: int | None = None) -> Iterator[Callable]:
        """D(x, sigma, labels) with its guidance, in ``precision`` and without dropout.

        Afterwards the denoiser is in the mode that it was in.

        Args:
            dropout_seed: Keep dropout, with masks from this seed.

        Raises:
            InputError: There is a ``guidance_scale``, and the network does not know "no class"; or
                a ``dropout_seed``, and it has no dropout.
        """
        if dropout_seed is not None and not self._has_dropout:
            raise InputError('This network has no dropout that could be kept.')
        denoiser = self.denoiser
        if self.guidance_scale is not None:
            if not self.null_class:
                raise InputError('guidance_scale needs null_class=True in the network.')
            denoiser = guided(denoiser, self.guidance_scale)
        dtype = PRECISIONS[self.precision]
        # A network whose weights have that type needs no casts around every layer.
        casts = dtype is not None and getattr(self.denoiser.network, 'dtype', None) is not dtype
        training = self.denoiser.training
        self.denoiser.train(dropout_seed is not None)
        masks = nullcontext() if dropout_seed is None else seeded_globals(dropout_seed, self.device)
        try:
            with torch.autocast(self.device.type, dtype=dtype, enabled=casts), masks:
                yield denoiser
        finally:
            self.denoiser.train(training)
