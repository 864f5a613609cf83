"""Files of others that are downloaded once: weights of the paper, of Inception, of VGG16."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.dist import barrier

from ..errors import InputError
from .digests import file_digest
from .download import download

CACHE_VARIABLE = 'MMAGIC_CM_CACHE'


def cache_folder() -> Path:
    """Where downloaded weights are: $MMAGIC_CM_CACHE, or else torch's own folder for them."""
    folder = os.environ.get(CACHE_VARIABLE)
    return Path(folder).expanduser() if folder else Path(torch.hub.get_dir()) / 'checkpoints'


@dataclass(frozen=True)
class CachedFile:
    """A file, where it comes from and where it belongs.

    Attributes:
        what: Its name in a sentence, such as 'The VGG16 of LPIPS'.
        address: http or https.
        path: Its place, whether it is there or not.
        digest: With which its SHA-256 begins; empty: it is not compared.
        advice: How else to get it: 'run `COMMAND`'.
    """

    what: str
    address: str
    path: Path
    digest: str = ''
    advice: str = ''

    def find(self) -> Path:
        """Its path.

        Raises:
            InputError: It is not there: says where it comes from and where to put it.
        """
        if not self.path.is_file():
            advice = f'{self.advice}, or ' if self.advice else ''
            raise InputError(
                f'{self.what} is not there yet: {advice}put {self.address} at {self.path}.'
            )
        return self.path

    def fetch(self, check: Callable[[Path], None] | None = None, progress: bool = True) -> Path:
        """Download it unless it is there; goes on where an attempt before stopped.

        One process of each machine downloads, the others wait for it.

        Args:
            check: As of :func:`.download`, beside the digest.
            progress: Show a bar.

        Raises:
            InputError: No network, or a file that is not what it should be.
        """
        try:
            if os.environ.get('LOCAL_RANK', '0') == '0':
                download(self.address, self.path, check or self._check, progress)
        finally:
            barrier()
        return self.find()

    def _check(self, path: Path) -> None:
        found = file_digest(path)[: len(self.digest)]
        if found != self.digest:
            raise InputError(
                f'{self.address} is not the file that it should be: its SHA-256 begins with '
                f'{found} instead of {self.digest}.'
            )
