"""The twelve models that the paper released, by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import InputError, closest
from ..io.cached_file import CachedFile, cache_folder

ADDRESS = 'https://openaipublic.blob.core.windows.net/consistency'


def configs_folder() -> Path:
    """Our config files, where mim and MMEngine's hub look for those of any package."""
    return Path(__file__).parents[1] / '.mim' / 'configs'


@dataclass(frozen=True)
class ReleasedModel:
    """A model of the paper.

    Attributes:
        name: As its file is called, without ``.pt``.
        network: Name of the file in ``configs/_base_/models`` that describes its network.
        parameterization: 'edm' or 'consistency'; the file of weights does not say which.
        sampler: Config of the sampler that was published for it.
    """

    name: str
    network: str
    parameterization: str
    sampler: dict[str, Any]

    @property
    def url(self) -> str:
        """Where it was released."""
        return f'{ADDRESS}/{self.name}.pt'

    @property
    def path(self) -> Path:
        """Its place in the cache, whether it is there or not."""
        return cache_folder() / f'{self.name}.pt'

    @property
    def file(self) -> CachedFile:
        """Where it comes from and where it belongs."""
        advice = f'run `python demo/download_checkpoints.py {self.name}`'
        return CachedFile(f'The released model {self.name}', self.url, self.path, advice=advice)

    def config(self) -> Config:
        """Its config for sampling, whose ``load_from`` names its file."""
        cfg = Config.fromfile(configs_folder() / '_base_' / 'models' / f'{self.network}.py')
        cfg.model.denoiser.parameterization = self.parameterization
        cfg.model.sampler = dict(self.sampler)
        cfg.default_scope = 'mmagic_cm'
        cfg.load_from = f'{self.name}.pt'
        return cfg


def _models() -> dict[str, ReleasedModel]:
    # Of each data set: its network, and the levels and their number for CD l2, CD LPIPS and CT.
    # For CD on Cat none were published: one step.
    data = {
        'imagenet64': ('imagenet_64', ((0, 22, 39), 40), ((0, 22, 39), 40), ((0, 106, 200), 201)),
        'bedroom256': ('lsun_256', ((0, 18, 39), 40), ((0, 17, 39), 40), ((0, 67, 150), 151)),
        'cat256': ('lsun_256', None, None, ((0, 62, 150), 151)),
    }
    models = []
    for name, (network, *published) in data.items():
        heun = dict(type='HeunSampler', num_steps=40)
        models.append(ReleasedModel(f'edm_{name}_ema', network, 'edm', heun))
        kinds = (f'cd_{name}_l2', f'cd_{name}_lpips', f'ct_{name}')
        for kind, levels in zip(kinds, published, strict=True):
            sampler = dict(type='OnestepSampler')
            if levels is not None:
                sampler = dict(type='MultistepSampler', ts=levels[0], num_scales=levels[1])
            models.append(ReleasedModel(kind, network, 'consistency', sampler))
    return {model.name: model for model in models}


RELEASED = _models()


def released_model(name: str) -> ReleasedModel:
    """The model of this name.

    Raises:
        InputError: There is none; names the closest one.
    """
    if name not in RELEASED:
        raise InputError(f'{name!r} is no released model.{closest(name, RELEASED)}')
    return RELEASED[name]


def find_released(path: str | Path) -> ReleasedModel | None:
    """The released model that a name or a file of that name means, if any."""
    return RELEASED.get(Path(path).name.removesuffix('.pt'))


def find_checkpoint(path: str | Path) -> Path:
    """The file or folder that a path means: itself, or the cached file of a released name.

    Raises:
        InputError: There is none; of a released model, says where to get it and where to put it.
    """
    path = Path(path).expanduser()
    if path.exists():
        return path
    model = RELEASED.get(str(path).removesuffix('.pt'))
    if model is None:
        raise InputError(f'There is no checkpoint file {path}.')
    return model.file.find()
