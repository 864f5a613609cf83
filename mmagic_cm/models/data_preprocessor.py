"""From a batch of uint8 images to what objectives take."""

import torch
from mmengine.model import BaseDataPreprocessor

from ..errors import InputError
from ..images import to_unit_range
from ..registry import MODELS


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
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
        super().__init__(non_blocking=non_blocking)
        self.num_classes = num_classes
        self.channels = channels
        self.image_size = image_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` uint8 (N, C, H, W), or a list of (C, H, W); ``labels`` int64 (N,) or a
                list of numbers; ``indices``, the numbers of the images in their data set. To draw,
                ``indices`` without ``inputs`` will do.
            training: Leave out ``indices``, which say what validation is to draw.

        Returns:
            ``inputs`` float32 (N, C, H, W) in [-1, 1], ``labels`` int64 (N,) or None, and
            ``indices`` as given.
        """
        if 'inputs' not in data:
            if training or 'indices' not in data:
                raise InputError(
                    'The data set gives no inputs: training needs images, and drawing needs at '
                    'least their numbers (indices).'
                )
            labels = self.cast_data(dict(labels=self._check_labels(data.get('labels'))))
            return dict(labels, indices=data['indices'])
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
        batch = self.cast_data(dict(inputs=inputs, labels=labels))
        # One byte a pixel crosses to the device; the arithmetic happens there.
        batch['inputs'] = to_unit_range(batch['inputs'])
        if not training and 'indices' in data:
            batch['indices'] = data['indices']
        return batch

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


def check_labels(labels: torch.Tensor, num_classes: int, null_class: bool = False) -> None:
    """Refuse labels (N,) outside of 0 .. num_classes - 1; ``null_class`` allows -1."""
    wrong = labels[(labels < -int(null_class)) | (labels >= num_classes)]
    if len(wrong):
        raise InputError(
            f'Label {int(wrong[0])} is out of range: the network has {num_classes} classes, '
            f'0 to {num_classes - 1}.'
        )
