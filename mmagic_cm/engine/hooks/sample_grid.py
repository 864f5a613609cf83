"""The hook that draws pictures while a model learns."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...diffusion.samplers import DiffusionSampler
from ...errors import InputError
from ...io.images import make_grid, save_image
from ...registry import DIFFUSION_SAMPLERS, HOOKS, resolve
from ...sampling.loop import choose_labels, sample_images
from .curriculum import unwrapped
from .ema import find_ema_hook


@HOOKS.register_module()
class SampleGridHook(Hook):
    """Save a grid of samples as ``WORK_DIR/samples/iter_N.png``, from the same noise each time.

    The grid goes to the visualizer's backends, too, such as TensorBoard.

    Args:
        interval: Iterations between grids; one more is drawn at the end of the run.
        num_rows: Rows; a conditional model draws a class each, from the first one.
        num_columns: Columns.
        sampler: A name, a config or an object; default: the model's own.
        ema: Which weights draw: 'auto' (the longest EMA), a rate of the EMAHook, or None (the
            online network).
        seed: Of the noise.
        batch_size: Images at a time.
    """

    priority = 'LOW'

    def __init__(
        self,
        interval: int = 1000,
        num_rows: int = 10,
        num_columns: int = 10,
        sampler: str | dict | DiffusionSampler | None = None,
        ema: str | float | None = 'auto',
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        self.interval = interval
        self.num_rows = num_rows
        self.num_columns = num_columns
        self.sampler = resolve(DIFFUSION_SAMPLERS, sampler)
        self.ema = ema
        self.seed = seed
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:
        """Find the EMAs now, so that a wrong setting does not surface hours later."""
        self._ema_hook = find_ema_hook(runner)
        if self._ema_hook is not None:
            self._ema_hook.check(self.ema)
        elif self.ema not in (None, 'auto'):
            raise InputError(f'There is no EMA of rate {self.ema!r}: the run has no EMAHook.')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Draw, every ``interval`` iterations and at the end."""
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._save_grid(runner)

    @master_only
    def _save_grid(self, runner: Runner) -> None:
        with self._ema_hook.applied(self.ema) if self._ema_hook else nullcontext():
            grid = self._draw(unwrapped(runner))
        path = Path(runner.work_dir) / 'samples' / f'iter_{runner.iter + 1}.png'
        save_image(grid, path)
        runner.visualizer.add_image('samples', np.asarray(grid), runner.iter + 1)
        runner.logger.info(f'a grid of samples is in {path}')

    def _draw(self, model):
        indices = range(self.num_rows * self.num_columns)
        labels = None
        if model.num_classes is not None:
            labels = [i // self.num_columns % model.num_classes for i in indices]
        labels = choose_labels(model, indices, labels, self.seed)
        images = sample_images(model, indices, labels, self.sampler, self.seed, self.batch_size)
        return make_grid(images, self.num_columns)
