"""MMagic's inference command with our model in it: same flags, device chosen by itself.

python demo/mmagic_inference_demo.py --model-name consistency_models --model-config CONFIG \
    --model-ckpt CKPT --label 0 --result-out-dir zeros.png

Without --model-ckpt it takes the weights that the config names (load_from), such as those that
demo/download_checkpoints.py has downloaded.
"""

from argparse import Namespace

from mmagic_cm.cli import Parser, Settings
from mmagic_cm.errors import InputError, closest, run_cli


def parse_args() -> Namespace:
    """Upstream's flags; its ``print_*`` ones ask for no model."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('--model-name', default='consistency_models')
    parser.add_argument(
        '--model-setting',
        type=lambda text: int(text) if text.isdigit() else text,
        help='index in the metafile of the model; of consistency_models, also a name in it',
    )
    parser.add_argument('--config-name', help="name in MMagic's metafile of the model")
    parser.add_argument('--model-config', help='config file or its name, or a released name')
    parser.add_argument('--model-ckpt', help="checkpoint; default: the config's own")
    parser.add_argument('--img', help='picture to edit, with --extra-parameters task=inpainting')
    parser.add_argument('--video', help='input video (models of MMagic)')
    parser.add_argument('--label', type=int, nargs='+', help='one for all images, or one each')
    parser.add_argument('--trimap', help='input of matting models')
    parser.add_argument('--mask', help='of task=inpainting: white = keep, black = fill')
    parser.add_argument('--text', default='', help='input of text2image models')
    parser.add_argument(
        '--result-out-dir',
        default='work_dirs/mmagic_inference_demo.png',
        help='file name of the picture (default: %(default)s)',
    )
    parser.add_argument('--device', help='default: a GPU where there is one')
    parser.add_argument(
        '--extra-parameters',
        nargs='+',
        action=Settings,
        metavar='KEY=VALUE',
        help='num_batches=4 sampler=multistep ts=0,22,39 num_scales=40 seed=0 task=inpainting',
    )
    parser.add_argument('--seed', type=int, default=2022)
    parser.add_argument('--print-supported-models', action='store_true')
    parser.add_argument('--print-supported-tasks', action='store_true')
    parser.add_argument('--print-task-supported-models', metavar='TASK')
    return parser.parse_args()


def main() -> None:
    """Draw, and say where the picture is."""
    args = parse_args()
    if args.label and len(args.label) == 1:
        args.label = args.label[0]
    from mmagic_cm.integrations.mmagic_inferencer import register_into_mmagic
    from mmagic_cm.io.devices import choose_device

    args.device = str(choose_device(args.device))
    register_into_mmagic()
    from mmagic.apis import MMagicInferencer

    if args.print_supported_models:
        print(*MMagicInferencer.get_inference_supported_models(), sep='\n')
    elif args.print_supported_tasks:
        print(*MMagicInferencer.get_inference_supported_tasks(), sep='\n')
    elif args.print_task_supported_models:
        task = args.print_task_supported_models
        print(*MMagicInferencer.get_task_supported_models(task), sep='\n')
    else:
        names = MMagicInferencer.get_inference_supported_models()
        if args.model_name not in names:
            raise InputError(
                f'MMagic has no model {args.model_name!r}.' + closest(args.model_name, names)
            )
        MMagicInferencer(**vars(args)).infer(**vars(args))
        print(f'{args.result_out_dir} is drawn')


if __name__ == '__main__':
    run_cli(main)
