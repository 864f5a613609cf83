"""Find the noise levels for multistep sampling: ``python tools/search_timesteps.py CONFIG CKPT``.

Each candidate draws the same images from the same noise, and the metrics of the config judge it.
What was tried is kept in the work directory: an interrupted search goes on.
"""

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmagic_cm.cli import Parser, add_launcher_arguments, add_model_arguments
from mmagic_cm.errors import InputError, run_cli

if TYPE_CHECKING:
    from mmengine.runner import Runner


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(
        description='Find the noise levels for multistep sampling by the metrics of a config'
    )
    parser.add_argument('config', help='config file with a test_evaluator')
    parser.add_argument('checkpoint', help="file of weights, or 'auto': the config's own")
    parser.add_argument(
        '--num-steps', type=int, choices=(2, 3, 4), default=2, help='network evaluations an image'
    )
    parser.add_argument(
        '--num-scales', type=int, help="levels of the grid; default: the config's, or 40"
    )
    parser.add_argument('--metric', help='default: FID, or the first figure that is best low')
    parser.add_argument('--num-samples', type=int, help="images to draw; default: the config's")
    parser.add_argument('--work-dir', help='of what was tried; default: work_dirs/NAME_OF_CONFIG')
    add_model_arguments(parser, 'test_dataloader.batch_size=100')
    add_launcher_arguments(parser)
    return parser.parse_args()


def say(text: str = '') -> None:
    """Print, once for all processes."""
    from mmengine.dist import is_main_process

    if is_main_process():
        print(text, flush=True)


def search(runner: 'Runner', args: argparse.Namespace) -> None:
    """Search, and print what is found."""
    from mmagic_cm.engine.hooks.curriculum import unwrapped
    from mmagic_cm.evaluation.candidates import Candidates
    from mmagic_cm.evaluation.level_grid import LevelGrid, num_evaluations, own_sampler
    from mmagic_cm.evaluation.timestep_search import check_search, search_timesteps
    from mmagic_cm.metrics.names import find_figure, higher_is_better, usual_figure

    own = own_sampler(runner.cfg.model)
    grid = LevelGrid.of(own, args.num_scales)
    check_search(grid.num_scales, args.num_steps)
    candidates = Candidates(runner, runner.work_dir)
    levels = grid.levels(unwrapped(runner).denoiser)

    def figure_of(sampler: Mapping) -> tuple[str, float]:
        figures, where = candidates.judge(sampler), "the config's test_evaluator"
        if args.metric is None:
            name = usual_figure(figures, where)
        else:
            name = find_figure(args.metric, figures, where)
        if higher_is_better(name) is None:
            raise InputError(f'{name} is no figure of ours, of which one knows what is better.')
        return name, figures[name]

    def told(sampler: Mapping) -> str:
        name, value = figure_of(sampler)
        return f'{name} {value:.5g}'

    def judge(sampler: Mapping, what: str) -> float:
        begin, known = time.monotonic(), candidates.recall(sampler) is not None
        name, value = figure_of(sampler)
        took = 'tried before' if known else f'{time.monotonic() - begin:.1f} s'
        say(f'{what:42} {told(sampler)}  ({took})')
        return -value if higher_is_better(name) else value

    def score(ts: tuple[int, ...]) -> float:
        sigmas = ', '.join(f'{levels[t]:.3g}' for t in ts[:-1])
        return judge(grid.sampler(ts), f'{ts}, levels {sigmas}:')

    if len(candidates):
        say(f'{len(candidates)} samplers were tried before: {candidates.path}')
    # A sampler of more evaluations, such as a teacher's, is no match, and dear.
    compared = num_evaluations(own) <= args.num_steps
    own_score = judge(own, f"the config's own {own['type']}:") if compared else None
    result = search_timesteps(score, grid.num_scales, args.num_steps)
    best = grid.sampler(result.ts)
    say(
        f'\nThe best of {len(result.tried)}: {result.ts}, {told(best)} in {args.num_steps} '
        f'evaluations.'
    )
    over_all = min(result.tried, key=result.tried.get)
    if len(over_all) < len(result.ts):
        say(f'{over_all} is better with fewer: {told(grid.sampler(over_all))}.')
    if own_score is not None and own_score <= result.score:
        say(
            f"The config's own sampler is no worse, with {num_evaluations(own)} evaluations "
            f'({told(own)}): keep it.'
        )
    else:
        settings = ', '.join(f'{key}={value!r}' for key, value in best.items())
        say(f'Put this into model of the config:\n\n    sampler=dict({settings}, _delete_=True)\n')
    say(f'All figures are in {candidates.path}.')


def main() -> None:
    """Set up the model and search."""
    args = parse_args()
    from mmagic_cm.evaluation.runs import judging_runner

    runner = judging_runner(
        args.config,
        args.checkpoint,
        args.ema,
        args.work_dir,
        {'log_level': 'WARNING', **args.cfg_options},
        args.launcher,
        num_samples=args.num_samples,
        seed=args.seed,
        precision=args.precision,
    )
    search(runner, args)


if __name__ == '__main__':
    run_cli(main)
