"""What generated images are compared with: statistics of real ones, read or computed once."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from tqdm import tqdm

from ..datasets.npz import NPZ_ERRORS
from ..errors import InputError
from ..io.cached_file import cache_folder
from ..io.digests import text_digest
from ..io.files import in_place_of
from ..metrics.features import FeatureExtractor, Features
from ..metrics.fid import Gaussian, GaussianAccumulator
from ..metrics.inception import InceptionFeatures
from ..metrics.scores import ASSUMED, KNOWN_METRICS, Reference, check_available
from .sources import ImageSource, check_source, open_images

# Images whose own features are kept, for KID, precision and recall: as many as ADM's files have.
NUM_KEPT = 10_000
# Names of mean and covariance in files: ADM's, and EDM's first two.
_KEYS = {'features': ('mu', 'sigma'), 'spatial': ('mu_s', 'sigma_s')}
# What else is in files of :func:`save_reference`.
_FACTS = ('identity', 'crop', 'source', 'count', 'size', 'features')


def read_reference(
    source: str | Path | Mapping[str, Any],
    extractor: FeatureExtractor,
    metrics: Sequence[str] | None = None,
    crop: int | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Reference:
    """Read statistics, or compute those of pictures, once: they are kept in the cache.

    Args:
        source: An ``.npz`` of ADM (mu, sigma, mu_s, sigma_s, and some images arr_0), of EDM (mu,
            sigma), of :func:`save_reference`, or of images (arr_0 alone); or pictures as
            :func:`~mmagic_cm.evaluation.sources.open_images` takes them.
        extractor: Whose features they are. Files of ADM and EDM, which do not say, are taken for
            features of the Inception of 2015.
        metrics: What is to be computed; default: all that the reference allows. KID, precision and
            recall take features of single images, which are computed of a file's images.
        crop: Side in pixels to which pictures of a folder or an LMDB are brought.
        batch_size: Images at a time.
        progress: Show a bar where statistics are computed.

    Raises:
        InputError: Nothing that can be read, or statistics of another extractor or crop.
    """
    check_source(source)
    found = None
    if not isinstance(source, Mapping) and Path(source).suffix == '.npz':
        path = Path(source).expanduser()
        found = _read_statistics(path, extractor)
        if found is not None:
            wanted = any(KNOWN_METRICS[name].real == 'images' for name in metrics or KNOWN_METRICS)
            if wanted and found.features is None and 'arr_0' in _read_npz(path)[0]:
                images = _computed(open_images(path), extractor, batch_size, progress)
                found = replace(found, features=images.features)
            if crop is not None:
                found.check_size((crop, crop))
    if found is None:
        found = _computed(open_images(source, crop), extractor, batch_size, progress)
    if metrics is not None:
        check_available(metrics, extractor.names, found)
    return found


def save_reference(reference: Reference, path: str | Path, **fields: Any) -> None:
    """Write statistics as ``.npz``: ADM's names, and what they are of; the file is a reference.

    Args:
        reference: With a known extractor.
        path: The file; it is there as a whole or not at all.
        **fields: Further arrays or texts.
    """
    path = Path(path)
    arrays = dict(fields)
    for name, gaussian in reference.gaussians.items():
        mean, covariance = _KEYS[name]
        arrays |= {mean: gaussian.mean, covariance: gaussian.covariance}
    if reference.features is not None:
        arrays['features'] = reference.features['features']
    known = dict(identity=reference.identity, count=reference.count, size=reference.size)
    arrays |= {name: value for name, value in known.items() if value is not None}
    arrays |= dict(crop=reference.crop, source=reference.source)
    with in_place_of(path, shared=True) as fresh, open(fresh, 'wb') as file:
        np.savez(file, **arrays)


def _read_npz(path: Path, names: Sequence[str] = ()) -> tuple[list[str], dict[str, Any]]:
    """The names of all arrays of an npz, and some of those arrays, where they are there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = [name for name in names if name in file.files]
            for name in found:
                info = file.zip.getinfo(f'{name}.npy')
                # Statistics are hardly compressible, and small.
                if info.file_size > 2**26 + 20 * info.compress_size:
                    raise ValueError(f'{name} would take {info.file_size:,} bytes')
            return file.files, {name: file[name] for name in found}
    except (*NPZ_ERRORS, TypeError) as error:  # the last: an npy
        raise InputError(f'{path} cannot be read as an npz: {error}.') from error


def _read_statistics(path: Path, extractor: FeatureExtractor) -> Reference | None:
    """The statistics in a file, or None where it holds images only."""
    names, found = _read_npz(path, _FACTS)
    if 'mu' not in names or 'sigma' not in names:
        if 'arr_0' in names:
            return None
        held = ', '.join(names) or 'nothing'
        raise InputError(f'{path} holds neither mu and sigma nor images (arr_0), but {held}.')
    identity = str(found['identity']) if 'identity' in found else None
    if identity is None:
        if not isinstance(extractor, InceptionFeatures):
            raise InputError(
                f'{path} does not say which features it is of, and is taken for the Inception '
                f'of 2015: {type(extractor).__name__} needs a reference made of pictures.'
            )
        print_log(f'The extractor of {path} is {ASSUMED}.', 'current')
    elif identity != extractor.identity:
        raise InputError(
            f'{path} holds statistics of other features ({identity}, not {extractor.identity}): '
            f'choose that extractor, or name the pictures as the reference.'
        )
    count = int(found['count']) if 'count' in found else None
    gaussians = {}
    for name, keys in _KEYS.items():
        if all(key in names for key in keys):
            mean, covariance = _read_npz(path, keys)[1].values()
            try:
                gaussians[name] = Gaussian(mean, covariance, count)
            except InputError as error:
                raise InputError(f'{path}, {" and ".join(keys)}: {error}') from error
    size = tuple(map(int, found['size'])) if 'size' in found else None
    crop = str(found.get('crop', 'not recorded in the file'))
    if 'arr_0' in names:
        images = open_images(path)
        size, crop = images.size, f'not recorded in the file; its images are {images.crop[6:]}'
    features = None
    if identity is not None and 'features' in found:
        features = Features(dict(features=found['features']), identity)
    source = str(found.get('source', path))
    return Reference(gaussians, features, identity, crop, source, count, size)


def _computed(
    source: ImageSource, extractor: FeatureExtractor, batch_size: int, progress: bool
) -> Reference:
    """The statistics of pictures, from the cache where they are the same."""
    digest = source.digest()
    key = text_digest(json.dumps([source.name, source.crop, extractor.identity]))
    stem = Path(source.name).stem.replace(' ', '_')
    path = cache_folder() / 'statistics' / f'{stem}-{key}.npz'
    if path.is_file() and str(_read_npz(path, ['digest'])[1].get('digest')) == digest:
        return _read_statistics(path, extractor)
    found = _compute(source, extractor, batch_size, progress)
    said, level = f'The statistics of {source.name} are kept in {path}.', logging.INFO
    try:
        save_reference(found, path, digest=digest)
    except OSError as error:
        # A full disk costs the next command their time, not this one what it is for.
        said, level = said.replace('are kept', f'could not be kept ({error})'), logging.WARNING
    print_log(said, 'current', level)
    return found


def _compute(
    source: ImageSource, extractor: FeatureExtractor, batch_size: int, progress: bool
) -> Reference:
    names = [name for name in _KEYS if name in extractor.names]
    accumulators = {name: GaussianAccumulator(extractor.device) for name in names}
    count = len(source)
    kept = np.unique(np.linspace(0, count - 1, min(count, NUM_KEPT)).round().astype(int))
    features, done = [], 0
    with tqdm(total=count, unit='image', desc='reference', disable=not progress) as bar:
        for batch in source.batches(batch_size):
            found = extractor(batch)
            for name, accumulator in accumulators.items():
                accumulator.update(found[name])
            here = kept[(kept >= done) & (kept < done + len(batch))] - done
            features.append(found['features'].cpu().numpy()[here])
            done += len(batch)
            bar.update(len(batch))
    gaussians = {name: accumulator.result() for name, accumulator in accumulators.items()}
    identity = extractor.identity
    of_images = Features(dict(features=np.concatenate(features)), identity)
    return Reference(gaussians, of_images, identity, source.crop, source.name, count, source.size)
