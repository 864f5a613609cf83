"""The folder in which the page's files are."""

import shutil
import tempfile
import time
from pathlib import Path

HOUR = 3600.0


class Outputs:
    """Folders for results, of which old ones are removed whenever a new one is made.

    Args:
        folder: Where they are.
        max_age: Seconds that a result is kept. (The page has a copy of its own while it shows it.)
    """

    def __init__(self, folder: str | Path, max_age: float = HOUR) -> None:
        self._folder = Path(folder)
        self._max_age = max_age

    def new(self) -> Path:
        """An empty folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if time.time() - old.stat().st_mtime > self._max_age:
                shutil.rmtree(old)
        return Path(tempfile.mkdtemp(dir=self._folder))
