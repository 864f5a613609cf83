"""Draw images into a file or a folder: ``python tools/sample.py CONFIG [CKPT] --out FILE``."""

import argparse

from mmagic_cm.cli import (
    Parser,
    add_launcher_arguments,
    add_model_arguments,
    add_sampler_argument,
    add_sampling_arguments,
    join_processes,
    parse_count,
    parse_integers,
)
from mmagic_cm.errors import run_cli


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Draw images into a file or a folder')
    parser.add_argument(
        'config',
        help='config file, the name of a released model, or a checkpoint that says what it is of',
    )
    parser.add_argument(
        'checkpoint', nargs='?', default='auto', help="weights; default: auto, the config's own"
    )
    parser.add_argument('--num-samples', type=int, required=True, help='how many images')
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE.npz|DIR|GRID.png',
        help='an npz as evaluators read it, a folder of pictures, or one picture of all',
    )
    parser.add_argument(
        '--labels',
        default='random',
        help="'random' (default; from the seed), 'balanced', or classes in turn: 1,5,9 or 0-9",
    )
    add_sampler_argument(parser)
    parser.add_argument(
        '--ts',
        type=parse_integers,
        help='multistep sampling at these indices of the grid, such as 0,22,39',
    )
    parser.add_argument(
        '--timesteps', type=parse_integers, help='the same as diffusers has it, such as 22,0'
    )
    parser.add_argument(
        '--num-scales', type=int, help="what --ts and --timesteps count; default: the config's"
    )
    parser.add_argument('--columns', type=parse_count, help='of a grid; default: as many as rows')
    add_sampling_arguments(parser)
    add_model_arguments(parser, 'model.denoiser.sigma_data=0.5')
    add_launcher_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Draw."""
    args = parse_args()
    from mmagic_cm.apis import init_model, open_model
    from mmagic_cm.datasets.settings import merge_options
    from mmagic_cm.sampling.choice import choose_sampler
    from mmagic_cm.sampling.sets import write_samples

    config, checkpoint = open_model(args.config, args.checkpoint)
    merge_options(config, args.cfg_options)
    own = config.get('model', {}).get('sampler')
    sampler = choose_sampler(own, args.sampler, args.ts, args.timesteps, args.num_scales)
    join_processes(args.launcher)
    model = init_model(config, checkpoint, args.device, args.precision, args.ema)
    if args.guidance_scale is not None:
        model.guidance_scale = args.guidance_scale
    write_samples(
        model,
        args.num_samples,
        args.out,
        labels=args.labels,
        sampler=sampler,
        seed=args.seed,
        batch_size=args.batch_size,
        progress=True,
        num_columns=args.columns,
    )


if __name__ == '__main__':
    run_cli(main)
