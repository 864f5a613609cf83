"""A page to sample, edit and look at runs with: ``python demo/gradio_demo.py``."""

import argparse
import threading
from pathlib import Path

from mmagic_cm.cli import Parser
from mmagic_cm.errors import InputError, run_cli


def folder(text: str) -> Path:
    """The type of ``--work-dirs``: a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f'{text} is no folder')
    return Path(text)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description='Serve a web page for consistency models')
    parser.add_argument(
        '--host', default='127.0.0.1', help='where to listen (default: %(default)s)'
    )
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    parser.add_argument(
        '--work-dirs',
        nargs='+',
        type=folder,
        default=[Path('work_dirs')],  # which may come later
        metavar='DIR',
        help='where runs, their configs and checkpoints are (default: work_dirs)',
    )
    parser.add_argument(
        '--allow-any-checkpoint',
        action='store_true',
        help='open checkpoints by any path of this machine that is typed into the page',
    )
    parser.add_argument('--device', help='default: a GPU where there is one')
    return parser.parse_args()


def main() -> None:
    """Serve until interrupted."""
    args = parse_args()
    try:
        from mmagic_cm.web.models import Shelf
        from mmagic_cm.web.server import serve
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise InputError("The page needs Gradio: pip install 'mmagic-cm[web]'.") from error
    shelf = Shelf(args.work_dirs, args.device, args.allow_any_checkpoint)
    with serve(shelf, args.host, args.port) as page:
        print(f'The page is at {page.local_url} (Ctrl-C ends it)', flush=True)
        threading.Event().wait()


if __name__ == '__main__':
    run_cli(main)
