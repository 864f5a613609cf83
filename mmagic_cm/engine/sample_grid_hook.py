"""The hook that draws pictures while a model learns."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..diffusion.samplers import DiffusionSampler
from ..errors import InputError
from ..generation import choose_labels, draw_images
from ..images import make_grid, save_image
from ..registry import DIFFUSION_SAMPLERS, HOOKS, resolve
from .curriculum_hook import unwrapped
from .ema_hook import EMAHook


@HOOKS.register_module()
class SampleGridHook(Hook):
    """Save a grid of samples as ``WORK_DIR/samples/iter_N.png``, from the same noise each time.

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
        hooks = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        rates = hooks[0].rates if hooks else ()
        if self.ema not in (None, 'auto', *rates):
            raise InputError(f'SampleGridHook: no EMA of rate {self.ema}; EMAHook keeps {rates}.')
        self._ema_hook = hooks[0] if hooks and self.ema is not None else None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Draw, every ``interval`` iterations and at the end."""
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._save_grid(runner)

    @master_only
    def _save_grid(self, runner: Runner) -> None:
        if self._ema_hook is None:
            grid = self._draw(unwrapped(runner))
        else:
            rate = None if self.ema == 'auto' else self.ema
            with self._ema_hook.tracker.applied(rate):
                grid = self._draw(unwrapped(runner))
        path = Path(runner.work_dir) / 'samples' / f'iter_{runner.iter + 1}.png'
        save_image(grid, path)
        runner.logger.info(f'a grid of samples is in {path}')

    def _draw(self, model):
        indices = range(self.num_rows * self.num_columns)
        labels = None
        if model.num_classes is not None:
            labels = [i // self.num_columns % model.num_classes for i in indices]
        labels = choose_labels(model, indices, labels, self.seed)
        images = draw_images(model, indices, labels, self.sampler, self.seed, self.batch_size)
        return make_grid(images, self.num_columns)
