"""From a batch of uint8 images to what objectives take."""

import torch
from mmengine.dist import get_dist_info
from torch import nn

from ..diffusion.noise import derive_seed
from ..errors import InputError
from ..io.images import to_unit_range
from ..registry import MODELS


@MODELS.register_module()
class DataPreprocessor(nn.Module):
    """uint8 images -> float32 [-1, 1] on the device of the model; labels are checked.

    Labels are checked here because here they are still on the host: a label out of range on a GPU
    stops the process with a device-side assertion.

    Args:
        num_classes: Of the network; None: labels are dropped, the network is unconditional.
        channels: Of the network's input, to refuse gray images for a colour network.
        image_size: Side of the network's images: the network itself would take other sizes too.
        non_blocking: Copy from pinned memory without waiting.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        channels: int | None = None,
        image_size: int | None = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__()
        self._device = torch.device('cpu')  # the model sets it
        self._non_blocking = non_blocking
        self.num_classes = num_classes
        self.channels = channels
        self.image_size = image_size
        self._num_drawn = 0

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` uint8 (N, C, H, W), or a list of (C, H, W); ``labels`` int64 (N,) or a
                list of numbers; ``indices``, the numbers of the images in their data set. To draw,
                ``indices`` without ``inputs`` will do. Or a batch of MMagic's: by ``PackInputs``,
                or of a metric such as its FID, which says only how many it wants.
            training: Leave out ``indices``, which say what validation is to draw.

        Returns:
            ``inputs`` float32 (N, C, H, W) in [-1, 1], ``labels`` int64 (N,) or None, and
            ``indices`` and MMagic's ``data_samples`` (as dicts) as given.
        """
        asked = data.get('inputs')
        if isinstance(asked, dict) and 'num_batches' in asked:
            data = self._number(asked['num_batches'])
        elif 'data_samples' in data:
            data = _unpack(**data)
        kept = () if training else ('indices', 'data_samples')
        given = {key: data[key] for key in kept if key in data}
        if 'inputs' not in data:
            if training or 'indices' not in data:
                raise InputError(
                    'The data set gives no inputs: training needs images, and drawing needs at '
                    'least their numbers (indices).'
                )
            return dict(labels=self._move(self._check_labels(data.get('labels')))) | given
        inputs = data['inputs']
        if not torch.is_tensor(inputs):
            inputs = torch.stack(list(inputs))
        if inputs.dtype != torch.uint8:
            raise InputError(f'inputs must be uint8 images 0..255, not {inputs.dtype}.')
        if self.channels is not None and inputs.shape[1] != self.channels:
            raise InputError(
                f'The network takes images of {self.channels} channels, and the data set gives '
                f'{inputs.shape[1]}.'
            )
        if self.image_size is not None and inputs.shape[2:] != (self.image_size, self.image_size):
            raise InputError(
                f'The network takes images of {self.image_size} x {self.image_size} pixels, and '
                f'the data set gives {" x ".join(map(str, inputs.shape[2:]))}.'
            )
        labels = self._check_labels(data.get('labels'))
        # One byte a pixel crosses to the device; the arithmetic happens there.
        inputs = to_unit_range(self._move(inputs))
        return dict(inputs=inputs, labels=self._move(labels)) | given

    def train(self, mode: bool = True) -> 'DataPreprocessor':
        """Begin a new set of images for MMagic's metrics, whose loops call ``eval()`` first."""
        self._num_drawn = 0
        return super().train(mode)

    def _move(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None:
            return None
        return tensor.to(self._device, non_blocking=self._non_blocking)

    def _number(self, num_images: int) -> dict:
        """Numbers and random labels for so many images; each process has its own."""
        rank, processes = get_dist_info()
        batch = range(self._num_drawn, self._num_drawn + num_images)
        self._num_drawn += num_images
        indices = [i * processes + rank for i in batch]
        data = dict(indices=indices, data_samples=[{} for _ in indices])
        if self.num_classes is not None:
            data['labels'] = [derive_seed(0, i, 'label') % self.num_classes for i in indices]
        return data

    def _check_labels(self, labels: torch.Tensor | list | None) -> torch.Tensor | None:
        if self.num_classes is None:
            return None
        if labels is None:
            raise InputError(
                f'The network has {self.num_classes} classes, and the data set gives no labels.'
            )
        labels = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        if labels.device.type == 'cpu':
            check_labels(labels, self.num_classes)
        return labels


def _unpack(inputs: list | dict, data_samples: list) -> dict:
    """A batch of MMagic's ``PackInputs`` as one of ours.

    Args:
        inputs: Images (C, H, W), unless they are in the samples.
        data_samples: MMagic's, with ``gt_img`` (C, H, W) or not, with ``gt_label`` or not.
    """
    first = data_samples[0]
    key = 'gt' if 'gt_img' in first else 'img'
    images = torch.stack([s.gt_img for s in data_samples] if key == 'gt' else list(inputs))
    if first.metainfo.get(f'{key}_channel_order') == 'bgr':
        images = images.flip(1)
    data = dict(inputs=images, data_samples=[sample.to_dict() for sample in data_samples])
    if 'gt_label' in first:
        data['labels'] = torch.cat([sample.gt_label.label for sample in data_samples])
    if 'sample_idx' in first:
        data['indices'] = [sample.sample_idx for sample in data_samples]
    return data


def check_labels(labels: torch.Tensor, num_classes: int, null_class: bool = False) -> None:
    """Refuse labels (N,) outside of 0 .. num_classes - 1; ``null_class`` allows -1."""
    wrong = labels[(labels < -int(null_class)) | (labels >= num_classes)]
    if len(wrong):
        raise InputError(
            f'Label {int(wrong[0])} is out of range: the network has {num_classes} classes, '
            f'0 to {num_classes - 1}.'
        )
