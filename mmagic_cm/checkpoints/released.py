"""Models that others released, by name: the paper's, those of its JAX code, and EDM's."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import InputError, closest
from ..io.cached_file import CachedFile, cache_folder


def configs_folder() -> Path:
    """Our config files, where mim and MMEngine's hub look for those of any package."""
    return Path(__file__).parents[1] / '.mim' / 'configs'


@dataclass(frozen=True)
class Family:
    """Models that came out together.

    Attributes:
        title: Whose they are, and the licence of their code.
        address: With which the addresses of their files begin.
        suffix: Of their files in the cache.
        licence: Of the weights; None: none is stated for them.
    """

    title: str
    address: str
    suffix: str
    licence: str | None = None

    def __str__(self) -> str:
        return f'{self.title}; licence of the weights: {self.licence or "not stated"}'


@dataclass(frozen=True)
class ReleasedModel:
    """A released model.

    Attributes:
        name: As its file in the cache is called, without the suffix.
        family: What it came out with.
        network: Name of the file in ``configs/_base_/models`` that describes its network.
        parameterization: 'edm' or 'consistency'; the file of weights may not say which.
        sampler: Config of the sampler that was published for it.
        url: Where it was released.
        fid: Published for this very model, by the number of network evaluations an image.
        denoiser: What differs in its denoiser's config from that of ``network``.
        size: Of the file in GB, where it is known.
    """

    name: str
    family: Family
    network: str
    parameterization: str
    sampler: dict[str, Any]
    url: str
    fid: Mapping[int, float] = field(default_factory=dict)
    denoiser: Mapping[str, Any] = field(default_factory=dict)
    size: float | None = None

    @property
    def path(self) -> Path:
        """Its place in the cache, whether it is there or not."""
        return cache_folder() / f'{self.name}{self.family.suffix}'

    @property
    def command(self) -> str:
        """What downloads it."""
        return f'python demo/download_checkpoints.py {self.name}'

    @property
    def file(self) -> CachedFile:
        """Where it comes from and where it belongs."""
        what, advice = f'The released model {self.name}', f'run `{self.command}`'
        return CachedFile(what, self.url, self.path, advice=advice)

    @property
    def figures(self) -> str:
        """Its size and its FIDs by the number of network evaluations (NFE), for people to read."""
        size = [f'{self.size:.1f} GB'] if self.size else []
        fids = ', '.join(f'{fid:g} (NFE {count})' for count, fid in self.fid.items())
        return ', '.join([*size, f'FID {fids}' if fids else 'no FID published'])

    def config(self) -> Config:
        """Its config for sampling, whose ``load_from`` names its file."""
        cfg = Config.fromfile(configs_folder() / '_base_' / 'models' / f'{self.network}.py')
        denoiser = dict(self.denoiser, parameterization=self.parameterization)
        cfg.merge_from_dict(dict(model=dict(denoiser=denoiser)))
        cfg.model.sampler = dict(self.sampler)
        cfg.default_scope = 'mmagic_cm'
        cfg.load_from = self.path.name
        return cfg


def _heun(num_steps: int, **churn: float) -> dict[str, Any]:
    return dict(type='HeunSampler', num_steps=num_steps, **churn)


def _levels(*ts: int) -> dict[str, Any]:
    return dict(type='MultistepSampler', ts=ts, num_scales=ts[-1] + 1)


_ONESTEP = dict(type='OnestepSampler')
_OPENAI = 'https://openaipublic.blob.core.windows.net/consistency'

PAPER = Family('Consistency models (openai/consistency_models, code: MIT)', _OPENAI, '.pt')
# The published sampler; of CD on Cat there is none.
_PAPER = {
    'edm_imagenet64_ema': (_heun(40), {79: 2.44}),
    'cd_imagenet64_l2': (_levels(0, 22, 39), {}),
    'cd_imagenet64_lpips': (_levels(0, 22, 39), {1: 6.20, 2: 4.70}),
    'ct_imagenet64': (_levels(0, 106, 200), {1: 13.0}),
    'edm_bedroom256_ema': (_heun(40), {79: 3.57}),
    'cd_bedroom256_l2': (_levels(0, 18, 39), {}),
    'cd_bedroom256_lpips': (_levels(0, 17, 39), {1: 7.80, 2: 5.22}),
    'ct_bedroom256': (_levels(0, 67, 150), {1: 16.0}),
    'edm_cat256_ema': (_heun(40), {79: 6.69}),
    'cd_cat256_l2': (_ONESTEP, {}),
    'cd_cat256_lpips': (_ONESTEP, {1: 11.0}),
    'ct_cat256': (_levels(0, 62, 150), {1: 20.7, 2: 11.7}),
}

JAX = Family(
    'CIFAR-10 of the same paper (openai/consistency_models_cifar10, JAX, code: Apache-2.0)',
    f'{_OPENAI}/jcm_checkpoints',
    '.msgpack',
)
# Where below the address, the number of the file there, and its FIDs.
_JAX = {
    'cd_cifar10_l1': ('cd-l1', 80, {}),
    'cd_cifar10_l2': ('cd-l2', 80, {}),
    'cd_cifar10_lpips': ('cd-lpips', 80, {1: 3.55, 2: 2.93}),
    'ct_cifar10': ('ct-lpips', 74, {1: 8.70, 2: 5.83}),
    'continuous_cd_cifar10_l2': ('cifar10-continuous-cd-l2', 40, {}),
    'continuous_cd_cifar10_l2_stopgrad': ('cifar10-continuous-cd-l2-stopgrad', 40, {}),
    'continuous_cd_cifar10_lpips_stopgrad': ('cifar10-continuous-cd-lpips-stopgrad', 40, {}),
    'continuous_ct_cifar10_l2': ('continuous-ct-l2', 80, {}),
    'continuous_ct_cifar10_lpips': ('continuous-ct-lpips', 40, {}),
}

EDM = Family(
    'EDM (NVlabs/edm)',
    'https://nvlabs-fi-cdn.nvidia.com/edm/pretrained',
    '.pkl',
    'CC BY-NC-SA 4.0',
)
# Of CIFAR-10: network, number of classes, FID at 35 evaluations.
_EDM = {
    'edm-cifar10-32x32-uncond-vp': ('cifar10_ddpmpp_32', None, 1.97),
    'edm-cifar10-32x32-uncond-ve': ('cifar10_ncsnpp_32', None, 1.98),
    'edm-cifar10-32x32-cond-vp': ('cifar10_ddpmpp_32', 10, 1.79),
    'edm-cifar10-32x32-cond-ve': ('cifar10_ncsnpp_32', 10, 1.79),
}


def _models() -> Iterator[ReleasedModel]:
    for name, (sampler, fid) in _PAPER.items():
        network, size = ('imagenet_64', 1.2) if 'imagenet64' in name else ('lsun_256', 2.1)
        kind = 'edm' if name.startswith('edm') else 'consistency'
        url = f'{PAPER.address}/{name}.pt'
        yield ReleasedModel(name, PAPER, network, kind, sampler, url, fid, size=size)

    name, network, own = 'edm_cifar10_ema', 'cifar10_ncsnpp_32', dict(network=dict(dropout=0.13))
    url = f'{JAX.address}/{name}'
    yield ReleasedModel(name, JAX, network, 'edm', _heun(18), url, {35: 2.04}, own)
    for name, (place, number, fid) in _JAX.items():
        url = f'{JAX.address}/{place}/checkpoints/checkpoint_{number}'
        yield ReleasedModel(name, JAX, network, 'consistency', _ONESTEP, url, fid)

    for name, (network, num_classes, fid) in _EDM.items():
        url = f'{EDM.address}/{name}.pkl'
        own = dict(network=dict(num_classes=num_classes, augment_dim=9, dropout=0.13))
        yield ReleasedModel(name, EDM, network, 'edm', _heun(18), url, {35: fid}, own, 0.2)
    name = 'edm-imagenet-64x64-cond-adm'
    url = f'{EDM.address}/{name}.pkl'
    sampler = _heun(256, s_churn=40, s_tmin=0.05, s_tmax=50, s_noise=1.003)
    own = dict(c_noise='edm', network=dict(dropout=0.1))
    yield ReleasedModel(name, EDM, 'imagenet_64', 'edm', sampler, url, {511: 1.36}, own, 1.2)


RELEASED = {model.name: model for model in _models()}


def released_model(name: str) -> ReleasedModel:
    """The model of this name.

    Raises:
        InputError: There is none; names the closest one.
    """
    if name not in RELEASED:
        raise InputError(f'{name!r} is no released model.{closest(name, RELEASED)}')
    return RELEASED[name]


def find_released(path: str | Path) -> ReleasedModel | None:
    """The released model that a name, a file of that name or its own address means, if any."""
    name = Path(path).name
    for model in RELEASED.values():
        if name in (model.name, model.name + model.family.suffix) or str(path) == model.url:
            return model
    return None


def find_checkpoint(path: str | Path) -> Path:
    """The file or folder that a path means: itself, or the cached file of a released name.

    Of a released model whose weights have a licence it says so, once.

    Raises:
        InputError: There is none; of a released model, says where to get it and where to put it.
    """
    path = Path(path).expanduser()
    model = find_released(path)
    if not path.exists():
        if model is None or path.parent != Path():
            raise InputError(f'There is no checkpoint file {path}.')
        path = model.file.find()
    if model is not None and model.family.licence is not None:
        _say(f'The weights of {model.name} are under {model.family.licence} ({model.url}).')
    return path


@functools.cache
def _say(sentence: str) -> None:
    """Log a sentence, once a process."""
    print_log(sentence, 'current')
