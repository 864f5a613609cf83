"""What MMagic's inferencers are for its own models, for ours."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..apis import generate, init_model, load_config
from ..editing import edit_pictures
from ..errors import InputError, closest
from ..io.images import decode_image, make_grid, save_image
from ..sampling.choice import choose_sampler

MODEL_NAME = 'consistency_models'
MAX_COLUMNS = 8  # of the grid, as MMagic's


class ConsistencyInferencer:
    """What MMagic's ``Inferencers`` calls for a consistency model.

    Not a ``BaseMMagicInferencer``: that one unpickles checkpoints, loads what happens to fit, seeds
    the global generators and keeps its parameters on the class, where one call changes the next.

    Args:
        config: Whatever :func:`mmagic_cm.apis.init_model` takes.
        ckpt: Checkpoint, of which the longest EMA is used. Defaults to the config's own.
        device: Defaults to ``cuda`` if there is one, else ``cpu``.
        extra_parameters: Settings for every call: ``num_batches`` (number of images, 4),
            ``sampler`` (a registered name, its short form such as 'multistep', or a config dict;
            the config's own), ``ts`` and ``num_scales`` (of the multistep sampler; those of the
            config where that is its sampler), ``seed``.
        seed: Image i of a call depends on (seed, i, its label) alone.
    """

    # With a task, these are settings of :func:`~mmagic_cm.editing.edit_pictures`.
    of_tasks = ('factor', 'sigma', 'sigmas', 'num_steps', 'num_resamples')
    defaults: ClassVar = dict.fromkeys(
        ('num_batches', 'sampler', 'ts', 'num_scales', 'seed', 'task', *of_tasks)
    )
    # MMagic's demo hands its whole command line to every inferencer ...
    handed_on = (
        *('model_name', 'model_setting', 'config_name', 'model_config', 'model_ckpt', 'device'),
        *('print_supported_models', 'print_supported_tasks', 'print_task_supported_models'),
    )
    # ... and MMagicInferencer.infer the inputs of all kinds of models.
    foreign = ('img', 'video', 'trimap', 'mask', 'text')

    def __init__(
        self,
        config: Any,
        ckpt: str | None = None,
        device: str | torch.device | None = None,
        extra_parameters: dict | None = None,
        seed: int = 2022,
    ) -> None:
        parameters = self._merge(self.defaults, dict(seed=seed))
        self.extra_parameters = self._merge(parameters, extra_parameters)
        if isinstance(config, str | Path):
            config = load_config(config)
        if ckpt is None and config.get('load_from'):
            ckpt = 'auto'
        elif ckpt is None:
            warnings.warn('No model_ckpt: the weights are fresh, the pictures noise.', stacklevel=4)
        self.model = init_model(config, ckpt, device, precision='fp32', ema='auto')
        self.own_sampler = config['model'].get('sampler') or {}

    def get_extra_parameters(self) -> list[str]:
        """Names of the parameters that ``extra_parameters`` takes."""
        return list(self.defaults)

    def __call__(
        self,
        label: int | Sequence[int] | None = None,
        result_out_dir: str | Path | None = None,
        extra_parameters: dict | None = None,
        seed: int | None = None,
        img: str | Path | None = None,
        mask: str | Path | None = None,
        get_datasample: bool = False,
        is_batch: bool = False,
        **others: Any,
    ) -> tuple[Any, torch.Tensor]:
        """Draw images.

        Args:
            label: A class for all images, or a sequence with one class per image. Without one, a
                conditional model draws random classes from the seed.
            result_out_dir: File name of the picture, such as ``out/zeros.png``: one grid.
            extra_parameters: Settings for this call alone; they win over ``seed``.
            seed: Seed for this call alone.
            img: The picture to edit, with ``task`` among the extra parameters.
            mask: Of ``task='inpainting'``: white = keep, black = fill.
            get_datasample: Return DataSamples instead of dicts.
            is_batch: Return the results of all images instead of the first one's, as MMagic's
                inferencers have it.
            others: What ``MMagicInferencer.infer`` hands to every inferencer.

        Returns:
            The result (``fake_img`` uint8 (3, H, W) BGR 0..255, ``gt_label`` (1,) int64 where the
            model has classes) and all images, float (N, 3, H, W) RGB 0..1.
        """
        parameters = self._merge(self.extra_parameters, {} if seed is None else dict(seed=seed))
        parameters = self._merge(parameters, extra_parameters)
        if parameters['task'] is None:
            self._refuse({**others, 'img': img, 'mask': mask})
            samples = self._samples(*self._draw(label, parameters))
        else:
            self._refuse(others)
            samples = self._samples(*self._edit(img, mask, label, parameters))
        images = torch.stack([sample.fake_img for sample in samples])[:, [2, 1, 0]]
        if result_out_dir:
            pixels = images.permute(0, 2, 3, 1).numpy()
            save_image(make_grid(pixels, min(len(pixels), MAX_COLUMNS)), result_out_dir)
        results = samples if get_datasample else [self._as_dict(sample) for sample in samples]
        return (results if is_batch else results[0]), images / 255.0

    def _draw(self, label: int | Sequence[int] | None, parameters: dict) -> tuple[np.ndarray, Any]:
        """Samples, uint8 (N, H, W, C), and their labels."""
        count, ts = parameters['num_batches'], parameters['ts']
        if label is not None and np.ndim(label):
            if count not in (None, len(label)):
                raise InputError(f'num_batches={count} images, but {len(label)} labels.')
            count = len(label)
        if not isinstance(ts, list | tuple | None):
            raise InputError(f'ts={ts!r} is not a list of integers such as (0, 22, 39).')
        sampler = choose_sampler(
            self.own_sampler, parameters['sampler'], ts, num_scales=parameters['num_scales']
        )
        return generate(
            self.model, 4 if count is None else count, label, sampler, parameters['seed']
        )

    def _edit(
        self, img: str | Path | None, mask: str | Path | None, label: Any, parameters: dict
    ) -> tuple[np.ndarray, Any]:
        """The candidates of one picture, uint8 (N, H, W, C), and their labels."""
        pictures, masks = ([] if not p else [decode_image(p)] for p in (img, mask))
        settings = {k: parameters[k] for k in self.of_tasks if parameters[k] is not None}
        (result,) = edit_pictures(
            self.model,
            parameters['task'],
            pictures,
            masks=masks,
            labels=label,
            seed=parameters['seed'],
            num_candidates=parameters['num_batches'],
            **settings,
        )
        count = len(result.candidates)
        return result.candidates, [label] * count if _is_int(label) else None

    @staticmethod
    def _samples(images: np.ndarray, labels: Any) -> list:
        """One DataSample per image."""
        from mmagic.structures import DataSample

        images = np.broadcast_to(images, (*images.shape[:3], 3))  # gray -> three channels
        images = torch.from_numpy(images[..., ::-1].transpose(0, 3, 1, 2).copy())  # RGB -> BGR
        samples = [DataSample(fake_img=image) for image in images]
        if labels is not None:
            for sample, label in zip(samples, labels, strict=True):
                sample.set_gt_label(int(label))
        return samples

    @staticmethod
    def _as_dict(sample: Any) -> dict:
        result = dict(fake_img=sample.fake_img)
        if 'gt_label' in sample:
            result['gt_label'] = sample.gt_label.label
        return result

    def _merge(self, parameters: dict, changes: dict | None) -> dict:
        """A new dict with the changes in it."""
        changes = changes or {}
        for name, value in changes.items():
            if name not in self.defaults:
                raise InputError(
                    f'{name!r} is not an extra parameter of {MODEL_NAME}.'
                    + closest(name, self.defaults)
                )
            if name in ('num_batches', 'num_scales', 'seed') and not _is_int(value):
                raise InputError(f'{name}={value!r} is not an integer.')
            if name == 'num_batches' and value < 1:
                raise InputError(f'num_batches, the number of images, is {value}.')
        if 'sampler' in changes:  # the settings of the sampler that it replaces go with it
            parameters = {**parameters, 'ts': None, 'num_scales': None}
        return {**parameters, **changes}

    def _refuse(self, others: dict) -> None:
        """Nothing that a user hands in is ignored in silence."""
        for name, value in others.items():
            if name in self.foreign:
                if value is not None and not (isinstance(value, str) and value == ''):
                    raise InputError(f'{MODEL_NAME} draws from noise: it takes no {name!r}.')
            elif name not in self.handed_on:
                known = ['label', 'result_out_dir', 'extra_parameters', 'seed']
                raise InputError(f'infer() takes no {name!r}.' + closest(name, known))


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
