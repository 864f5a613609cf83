"""The models that the page offers, and the few of them that stay in memory."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torchvision.models import ResNet50_Weights

from ..apis import init_model, load_config
from ..checkpoints import RELEASED, Checkpoint, find_released, is_checkpoint
from ..checkpoints.released import cache_folder, configs_folder
from ..diffusion.samplers import OnestepSampler
from ..errors import InputError, closest
from ..io.devices import choose_device
from ..models.consistency_model import ConsistencyModel
from ..plotting.runs import is_run

OWN = "the checkpoint's own"  # config, or sampler
CAPACITY = 2  # models kept in memory
_NUM_IMAGENET = 1000
_CIFAR10 = (
    *('airplane', 'automobile', 'bird', 'cat', 'deer'),
    *('dog', 'frog', 'horse', 'ship', 'truck'),
)


class Shelf:
    """Finds configs, checkpoints and runs by name; loads models and keeps the last few.

    Only what was found is served: a name that comes over the network is looked up, never opened
    as a path. Configs are programs, checkpoints are read without unpickling.

    Args:
        work_dirs: Folders in which runs lie, at any depth.
        device: As of :func:`~mmagic_cm.apis.init_model`.
        allow_any_checkpoint: Open checkpoints by their path, too.
    """

    def __init__(
        self,
        work_dirs: Sequence[str | Path] = ('work_dirs',),
        device: str | torch.device | None = None,
        allow_any_checkpoint: bool = False,
    ) -> None:
        self.work_dirs = [Path(folder) for folder in work_dirs]
        self.device = choose_device(device)
        self.allow_any_checkpoint = allow_any_checkpoint
        self._loaded: OrderedDict[tuple, ConsistencyModel] = OrderedDict()
        self._lock = threading.Lock()

    def checkpoints(self) -> dict[str, Path]:
        """Files of weights by name: those of runs, newest first, released models, the cache's."""
        of_runs = [item for item in self._walk() if is_checkpoint(item[1])]
        found = dict(sorted(of_runs, key=lambda item: -item[1].stat().st_mtime))
        found |= {name: model.path for name, model in RELEASED.items()}
        cache = cache_folder()
        for path in sorted(cache.rglob('*')):
            if path.is_file() and is_checkpoint(path) and find_released(path) is None:
                found.setdefault(str(path.relative_to(cache)), path)
        return found

    def configs(self) -> dict[str, Path]:
        """Config files by name: those of runs, and ours."""
        found = {name: path for name, path in self._walk() if _is_config_of_run(path)}
        ours = configs_folder()
        for path in sorted(ours.glob('[!_]*/*.py')):
            found.setdefault(str(path.relative_to(ours)), path)
        return found

    def runs(self) -> dict[str, Path]:
        """Folders of training runs by name, the newest first."""
        folders = {path.parents[2] for _, path in self._walk('scalars.json')}
        found = sorted(filter(is_run, folders), key=lambda path: -path.stat().st_mtime)
        return dict(self._named(found))

    def _walk(self, pattern: str = '*') -> Iterator[tuple[str, Path]]:
        for folder in self.work_dirs:
            yield from self._named(path for path in folder.rglob(pattern) if path.is_file())

    def _named(self, paths: Iterator[Path] | Sequence[Path]) -> Iterator[tuple[str, Path]]:
        """Each path below the work directories with its name, which is unique."""
        several = len(self.work_dirs) > 1
        for path in paths:
            root = next(folder for folder in self.work_dirs if path.is_relative_to(folder))
            yield str(path.relative_to(root.parent if several else root)), path

    def find_run(self, name: str) -> Path:
        """The folder of a run; an InputError where it is none that was found."""
        return _look_up(name, self.runs(), 'training run')

    def find_checkpoint(self, name: str | None) -> str | Path:
        """What a name stands for: a path, or the name of a released model.

        Raises:
            InputError: It is none that was found, and paths are not allowed.
        """
        if not name:
            raise InputError('Choose a checkpoint.')
        if name in RELEASED:
            return name
        found = self.checkpoints()
        if name in found:
            return found[name]
        if self.allow_any_checkpoint:
            return Path(name).expanduser()
        raise InputError(
            f'{name!r} is none of the checkpoints that this page offers; others are opened where '
            'it was started with --allow-any-checkpoint.'
        )

    def config(self, checkpoint: str | None, config: str = OWN) -> Config:
        """The config of a checkpoint, or the one that was chosen for it.

        Raises:
            InputError: An unknown name; or the checkpoint has no config of its own.
        """
        path = self.find_checkpoint(checkpoint)
        if config != OWN:
            return load_config(_look_up(config, self.configs(), 'config'))
        opened = _open(path, _changed(path))
        if opened.config is not None:
            return opened.sampling_config()
        beside = [p for p in path.parent.glob('*.py') if _is_config_of_run(p)]
        if len(beside) != 1:
            raise InputError(f'{checkpoint} holds no config: choose one for it.')
        return load_config(beside[0])

    def class_names(self, checkpoint: str | None, config: str = OWN) -> list[str] | None:
        """Names of the classes by label; None of an unconditional model.

        Those of the training data, as the checkpoint tells them; ImageNet's where there are 1,000,
        CIFAR-10's of released models; else numbers.
        """
        network = self.config(checkpoint, config).model.denoiser.network
        count = network.get('num_classes')
        if count is None:
            return None
        path = self.find_checkpoint(checkpoint)
        names: Sequence[str] | None = None
        if path not in RELEASED:
            meta = _open(path, _changed(path)).meta
            names = (meta.get('dataset_meta') or {}).get('classes')
        elif count == len(_CIFAR10):
            names = _CIFAR10
        if not names and count == _NUM_IMAGENET:
            names = ResNet50_Weights.DEFAULT.meta['categories']  # in the order of the sorted wnids
        if not names or len(names) != count or len(set(names)) != count:
            names = range(count)
        return [str(name) for name in names]

    def about(self, checkpoint: str | None) -> str:
        """Of a released model, where it comes from and what was published; of others nothing."""
        released = RELEASED.get(checkpoint)
        if released is None:
            return ''
        missing = '' if released.path.is_file() else f' Not downloaded: `{released.command}`.'
        return f'{released.family}. {released.figures}.{missing}'

    def model(
        self, checkpoint: str | None, config: str = OWN, precision: str = 'fp32'
    ) -> ConsistencyModel:
        """A model with its weights, from memory where it is there and its file has not changed.

        Raises:
            InputError: As of :meth:`config` and of :func:`~mmagic_cm.apis.init_model`.
        """
        path = self.find_checkpoint(checkpoint)
        key = (str(path), _changed(path), config, precision)
        with self._lock:
            if key not in self._loaded:
                while len(self._loaded) >= CAPACITY:
                    self._loaded.popitem(last=False)
                cfg = self.config(checkpoint, config)
                model = init_model(cfg, path, self.device, precision)
                _warm_up(model)
                self._loaded[key] = model
            self._loaded.move_to_end(key)
            return self._loaded[key]


def labels_of(classes: Sequence[str | int] | None, names: Sequence[str] | None) -> str | None:
    """What the user chose among the classes, as ``sampling.loop.choose_labels`` takes it.

    Args:
        classes: Names, or labels as numbers (-1: no class); none: drawn at random.
        names: Of the model's classes, by label; None of an unconditional model.

    Raises:
        InputError: There is no such class.
    """
    if not classes:
        return None
    if names is None:
        raise InputError('This model is unconditional: it takes no classes.')
    labels = {name: str(label) for label, name in enumerate(names)}
    numbers = {str(label): str(label) for label in range(-1, len(names))}
    found = []
    for choice in map(str, classes):
        # Names first: a data set may call its class 7 '3'.
        label = labels.get(choice, numbers.get(choice))
        if label is None:
            few = names if len(names) <= 20 else [*names[:3], '...', names[-1]]
            raise InputError(f'{choice!r} is no class of this model.{closest(choice, few)}')
        found.append(label)
    return ','.join(found)


@functools.lru_cache(8)
def _open(path: str | Path, changed: int | None) -> Checkpoint:
    """What a checkpoint says about itself, read once until its file changes."""
    return Checkpoint(path, 'meta')


def _changed(path: str | Path) -> int | None:
    """When a file was last written, or that of a released name."""
    file = RELEASED[path].path if path in RELEASED else path
    return file.stat().st_mtime_ns if file.exists() else None


def _look_up(name: str, known: dict[str, Path], kind: str) -> Path:
    if name not in known:
        raise InputError(f'{name!r} is no {kind} that this page offers.')
    return known[name]


def _is_config_of_run(path: Path) -> bool:
    """Whether it is the config that a run left beside its checkpoints."""
    return path.suffix == '.py' and is_run(path.parent)


def _warm_up(model: ConsistencyModel) -> None:
    """One image, so that the first time that is shown is not that of getting started."""
    labels = None if model.num_classes is None else torch.zeros(1, dtype=torch.int64)
    model.sample([0], labels, OnestepSampler())
