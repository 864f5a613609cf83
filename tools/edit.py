"""Edit pictures: ``python tools/edit.py TASK CONFIG CKPT IMAGE... --out DIR``."""

import argparse
from collections import Counter
from pathlib import Path

from mmagic_cm.cli import Parser, add_model_arguments, add_sampling_arguments, parse_levels
from mmagic_cm.errors import InputError, closest, run_cli


def parse_args() -> argparse.Namespace:
    """The command line, with OpenMMLab's habits."""
    parser = Parser(description='Edit pictures with a consistency model')
    parser.add_argument(
        'task',
        metavar='TASK',
        help='inpainting, colorization, super-resolution, stroke, denoising or interpolation',
    )
    parser.add_argument('config', help='config file, or the name of a released model')
    parser.add_argument('checkpoint', help="file of weights, or 'auto': the config's own")
    parser.add_argument(
        'images',
        nargs='*',
        metavar='IMAGE',
        help='pictures; of an interpolation two, or none for a walk between two noises',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where to write')
    parser.add_argument(
        '--mask',
        nargs='+',
        default=[],
        help='of inpainting: white = keep, black = fill; one for all, or one for each',
    )
    parser.add_argument('--factor', type=int, default=4, help='of super-resolution; default 4')
    parser.add_argument(
        '--sigma',
        type=float,
        help='noise level, on the scale of [-1, 1]: of the pictures to denoise (default: '
        'estimated), or where an interpolation takes place',
    )
    parser.add_argument('--num-steps', type=int, default=40, help='noise levels; default 40')
    parser.add_argument('--sigma-max', type=float, help="highest of them; default: the model's")
    parser.add_argument('--sigma-min', type=float, help="lowest of them; default: the model's")
    parser.add_argument(
        '--sigmas', type=parse_levels, help='the noise levels themselves, such as 5.38,2.24'
    )
    parser.add_argument(
        '--num-resamples',
        type=int,
        default=1,
        help='visits of each level; 1 is the paper, more makes filled and known parts agree',
    )
    parser.add_argument(
        '--labels', help='of a conditional model: one for all, or one for each picture: 3,1,4'
    )
    parser.add_argument(
        '--num-candidates', type=int, help='for each picture (4); of an interpolation, its length'
    )
    parser.add_argument(
        '--teacher', metavar='CKPT', help='of an interpolation: an EDM model of the same network'
    )
    add_sampling_arguments(parser)
    add_model_arguments(parser, 'model.denoiser.sigma_data=0.5')
    return parser.parse_args()


def names_of(paths: list[str]) -> list[str]:
    """What the results of each picture are called: its name without the suffix."""
    names = [Path(path).stem for path in paths]
    name, times = max(Counter(names).items(), key=lambda item: item[1], default=('', 0))
    if times > 1:
        raise InputError(
            f'{times} pictures are called {name!r}, and their results would overwrite each other: '
            'rename them, or edit them into folders of their own.'
        )
    return names


def main() -> None:
    """Edit, and write everything."""
    args = parse_args()
    from mmagic_cm.apis import init_model, open_model
    from mmagic_cm.datasets.settings import merge_options
    from mmagic_cm.editing import TASKS, edit_pictures
    from mmagic_cm.io.images import decode_image, save_image
    from mmagic_cm.models.teacher import Teacher

    if args.task not in TASKS:
        raise InputError(f'Unknown task {args.task!r}.{closest(args.task, TASKS)}')
    names = ['walk'] if args.task == 'interpolation' else names_of(args.images)
    # What cannot be read is said before the weights are.
    pictures, masks = ([decode_image(p) for p in paths] for paths in (args.images, args.mask))
    config, checkpoint = open_model(args.config, args.checkpoint)
    merge_options(config, args.cfg_options)
    model = init_model(config, checkpoint, args.device, args.precision, args.ema)
    if args.guidance_scale is not None:
        model.guidance_scale = args.guidance_scale
    teacher = None
    if args.teacher is not None:
        teacher = Teacher(model.denoiser, args.teacher)
        teacher.load()
    results = edit_pictures(
        model,
        args.task,
        pictures,
        masks=masks,
        factor=args.factor,
        sigma=args.sigma,
        sigmas=args.sigmas,
        num_steps=args.num_steps,
        sigma_max=args.sigma_max,
        sigma_min=args.sigma_min,
        num_resamples=args.num_resamples,
        labels=args.labels,
        seed=args.seed,
        num_candidates=args.num_candidates,
        teacher=teacher,
        batch_size=args.batch_size,
        progress=True,
    )
    for name, result in zip(names, results, strict=True):
        parts = {**result.shown, **dict(enumerate(result.candidates))}
        for part, picture in parts.items():
            save_image(picture, args.out / f'{name}_{part}.png')
        whole = save_image(result.side_by_side(), args.out / f'{name}.png')
        print(f'{whole}: {", ".join(map(str, parts))}, from left to right')


if __name__ == '__main__':
    run_cli(main)
