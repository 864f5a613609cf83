"""The hook that says before a run what it will learn from."""

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from .curriculum import unwrapped


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """Log the data, the network and the size of a run before it begins."""

    # Before TrainingInfoHook starts its clock.
    priority = 'HIGHEST'

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Log on the main process, a line each."""
        say, loader, world_size = runner.logger.info, runner.train_dataloader, get_world_size()
        if hasattr(loader.dataset, 'describe'):
            say(f'Data: {loader.dataset.describe()}')
        parameters = sum(p.numel() for p in unwrapped(runner).denoiser.parameters())
        say(f'Network: {parameters:,} parameters.')
        num_images = loader.batch_size * world_size
        total = runner.max_iters * num_images
        run = f'Run: {runner.max_iters:,} iterations of {num_images:,} images'
        if world_size > 1:
            run += f' ({loader.batch_size:,} on each of {world_size} devices)'
        run += f', {total:,} images in all, {total / len(loader.dataset):,.1f} times the data set.'
        accumulated = runner.optim_wrapper._accumulative_counts
        if accumulated > 1:
            run += f' The optimizer takes a step every {accumulated} iterations.'
        if runner.iter > 0:
            run += f' It goes on after iteration {runner.iter:,}.'
        say(run)
