"""What our command lines share; torch and MMEngine are imported once something is to be done."""

import argparse
import datetime
import os
from typing import Any

from .errors import InputError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
PRECISIONS = ('fp32', 'bf16', 'fp16')


class Parser(argparse.ArgumentParser):
    """The parser of all commands: one that takes ``--debug``, of which ``errors.run_cli`` knows."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.add_argument(
            '--debug', action='store_true', help='show the traceback of what goes wrong'
        )

    def parse_args(self, *args: Any, **settings: Any) -> argparse.Namespace:
        """As upstream; the command does not see ``--debug``."""
        parsed = super().parse_args(*args, **settings)
        del parsed.debug
        return parsed


def check_launcher(launcher: str) -> None:
    """Refuse ``--launcher pytorch`` in a process that torchrun has not started."""
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError('--launcher pytorch is for processes that torchrun has started.')


def join_processes(launcher: str) -> None:
    """Let the processes of a launcher find each other, by gloo, and give each a GPU.

    For commands that compute apart and meet now and then. (MMEngine's Runner, which exchanges
    gradients by NCCL, joins the processes of a training by itself where there are GPUs.)

    Args:
        launcher: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'.

    Raises:
        InputError: The launcher did not start this process, or needs GPUs.
    """
    if launcher == 'none':
        return
    import torch
    from mmengine.dist import init_dist, is_distributed

    if is_distributed():
        return
    check_launcher(launcher)
    if launcher != 'pytorch':
        if not torch.cuda.is_available():
            raise InputError(f'--launcher {launcher} needs GPUs; without any, take pytorch.')
        init_dist(launcher, backend='gloo')
        return
    if torch.cuda.is_available():
        # Where there are more processes than GPUs, they share them.
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']) % torch.cuda.device_count())
    torch.distributed.init_process_group('gloo', timeout=datetime.timedelta(hours=2))


def parse_ema(text: str) -> str | float | None:
    """The type of ``--ema``: ``auto``, ``target``, ``none``, a rate or ``sigma_rel=WIDTH``."""
    if text in ('auto', 'target', 'none'):
        return None if text == 'none' else text
    number = text.removeprefix('sigma_rel=')
    try:
        return float(text) if number == text else f'sigma_rel={float(number)}'
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither 'auto', 'target' nor 'none', nor a rate such as 0.999, nor "
            f'sigma_rel=0.05'
        ) from error


def add_ema_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--ema auto|RATE|sigma_rel=WIDTH|target|none``."""
    parser.add_argument(
        '--ema',
        type=parse_ema,
        default='auto',
        metavar='auto|RATE|target|none',
        help='which weights of a training run: the longest EMA (default), one such as 0.999 or '
        'sigma_rel=0.05, the target network, or the online one',
    )


def add_model_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Add what all take that draw: ``--ema``, ``--precision``, ``--seed``, ``--cfg-options``."""
    add_ema_argument(parser)
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32', help='of the network')
    parser.add_argument('--seed', type=int, default=0, help='of the set of images')
    add_config_options(parser, example)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how to draw: ``--guidance-scale``, ``--batch-size``, ``--device``."""
    parser.add_argument('--guidance-scale', type=float, help="default: the config's")
    parser.add_argument('--batch-size', type=int, default=64, help='images at a time')
    parser.add_argument('--device', help='default: a GPU where there is one')


def add_sampler_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--sampler NAME [KEY=VALUE ...]``."""
    parser.add_argument(
        '--sampler',
        nargs='+',
        action=NameAndSettings,
        metavar=('NAME', 'KEY=VALUE'),
        help="default: the config's; or such as: heun num_steps=18",
    )


def add_config_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Let ``--cfg-options`` override settings of the config; the help gives an example."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        default={},
        metavar='KEY=VALUE',
        help=f'override settings, such as {example}',
    )


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``, and the ``--local-rank`` that some launchers hand to each process."""
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='of the job')
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def add_conversion_arguments(parser: argparse.ArgumentParser, size: int) -> None:
    """What all converters of data sets take."""
    parser.add_argument('--out', help='a folder, or NAME.lmdb, to write to')
    parser.add_argument('--size', type=int, default=size, help=f'side in pixels; default {size}')
    parser.add_argument(
        '--format',
        choices=('png', 'webp', 'jpg'),
        default='png',
        help='png and webp lose nothing; default png',
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes; default: one a core'
    )
    parser.add_argument(
        '--strict', action='store_true', help='refuse a source with another count than the real one'
    )


def parse_integers(text: str) -> tuple[int, ...]:
    """The type of options such as ``--ts 0,22,39``."""
    return _parse_list(text, int, 'whole numbers such as 0,22,39')


def parse_levels(text: str) -> tuple[float, ...]:
    """The type of options such as ``--sigmas 5.38,2.24``."""
    return _parse_list(text, float, 'numbers such as 5.38,2.24')


def _parse_list(text: str, kind: type, what: str) -> tuple:
    try:
        return tuple(kind(part) for part in text.split(','))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no list of {what}') from error


def parse_count(text: str) -> int:
    """The type of options such as ``--batch-size 4``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 1 on')
    return int(text)


def parse_share(text: str) -> float:
    """The type of options such as ``--at 0.5``."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no share of the run, from 0 to 1')
    return share


class Settings(argparse.Action):
    """The action of ``--cfg-options KEY=VALUE ...``: MMEngine's, with a sentence for the rest."""

    takes = 'KEY=VALUE'

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse the settings."""
        wrong = [text for text in values if '=' not in text]
        if wrong:
            parser.error(f'{option_string} takes {self.takes}, not {wrong[0]}')
        from mmengine.config import DictAction

        action = DictAction(self.option_strings, self.dest, nargs='+')
        action(parser, namespace, values, option_string)


class NameAndSettings(Settings):
    """The action of ``--sampler NAME [KEY=VALUE ...]``: a config with the name as its type."""

    takes = 'a name and KEY=VALUE'

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse the settings as ``--cfg-options`` does."""
        name, *settings = values
        if '=' in name:
            parser.error(f'{option_string} takes {self.takes}, not {name}')
        super().__call__(parser, namespace, settings, option_string)
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), 'type': name})
