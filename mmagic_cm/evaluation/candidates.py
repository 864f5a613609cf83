"""Samplers that are judged one after another, by one model and the same noise, and remembered."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from ..checkpoints import sampling_part
from ..engine.hooks.curriculum import unwrapped
from ..errors import InputError, doing
from ..io.digests import tensors_digest, text_digest
from ..io.files import in_place_of
from ..registry import DIFFUSION_SAMPLERS


class Candidates:
    """The figures of samplers, each judged once.

    All that a figure depends on beside the sampler is the key of the cache: network and weights,
    precision, seed, what is drawn and how it is judged. The batch size is not, since an image
    depends on the seed, its number and its label alone. The cache is a JSON file in ``folder``
    whose name ends in a digest of the key, so that each model has its own and an interrupted
    search goes on. A reference that is exchanged under the same name goes unnoticed: then remove
    the file.

    Args:
        runner: From :func:`~mmagic_cm.evaluation.runs.judging_runner`.
        folder: Where the cache is kept.

    Attributes:
        path: The file of the cache.

    Raises:
        InputError: The file is not a cache of this model.
    """

    def __init__(self, runner: Runner, folder: str | Path) -> None:
        self._runner = runner
        self._model = unwrapped(runner)
        self._key = _key_of(runner)
        runner.logger.addFilter(_once())
        digest = text_digest(_text(self._key))[:8]
        self.path = Path(folder) / f'search_timesteps_{digest}.json'
        # Only the main process writes, and may have written before others have looked.
        tried = [self._read() if is_main_process() else None]
        broadcast_object_list(tried)
        self._tried: list[dict[str, Any]] = tried[0]

    def __len__(self) -> int:
        return len(self._tried)

    def recall(self, sampler: Mapping[str, Any]) -> dict[str, float] | None:
        """The figures of a sampler that was judged before, None of others."""
        wanted = _text(sampler)
        return next((e['figures'] for e in self._tried if _text(e['sampler']) == wanted), None)

    def judge(self, sampler: Mapping[str, Any]) -> dict[str, float]:
        """The figures of a sampler by name: those of before, or freshly judged.

        Args:
            sampler: Its config.
        """
        figures = self.recall(sampler)
        if figures is None:
            self._model.sampler = DIFFUSION_SAMPLERS.build(dict(sampler))
            found = self._runner.test()
            figures = {name: float(value) for name, value in found.items()}
            self._tried.append(dict(sampler=dict(sampler), figures=figures))
            if is_main_process():
                self._write()
        return figures

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with doing(f'reading {self.path} (remove it, and all starts anew)'):
            content = json.loads(self.path.read_text())
            key, tried = content['key'], content['tried']
            kept = [dict(sampler=dict(e['sampler']), figures=dict(e['figures'])) for e in tried]
        if _text(key) != _text(self._key):
            raise InputError(
                f'{self.path} holds what was tried with another model or another way of judging: '
                f'remove it, or take another --work-dir.'
            )
        return kept

    def _write(self) -> None:
        """Replace the file by a whole one, whenever the process ends."""
        content = dict(key=self._key, tried=self._tried)
        with in_place_of(self.path) as fresh:
            fresh.write_text(json.dumps(content, indent=1) + '\n')


def _once() -> Callable[[logging.LogRecord], bool]:
    """Let a warning pass once: each candidate would repeat it."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        repeated = record.levelno == logging.WARNING and message in seen
        seen.add(message)
        return not repeated

    return is_new


def _key_of(runner: Runner) -> dict[str, Any]:
    """What the figures depend on, as JSON has it."""
    model, cfg = unwrapped(runner), runner.cfg.to_dict()
    settings = {k: v for k, v in sampling_part(cfg['model']).items() if k != 'sampler'}
    key = dict(
        model=settings,
        weights=tensors_digest(model.state_dict()),
        precision=model.precision,
        guidance_scale=model.guidance_scale,
        seed=model.sampling_seed,
        dataset=cfg['test_dataloader']['dataset'],
        evaluator=cfg['test_evaluator'],
    )
    return json.loads(_text(key))


def _text(value: Any) -> str:
    """One text for equal settings, tuples and lists being the same."""
    return json.dumps(value, sort_keys=True, default=str)
