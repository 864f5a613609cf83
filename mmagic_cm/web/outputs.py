"""The folder in which the page's results are."""

import shutil
import tempfile
from collections import deque
from pathlib import Path

HOUR = 3600  # seconds that a file is kept
MAX_RESULTS = 100


class Outputs:
    """Folders for results, of which the oldest is removed when there are too many.

    Args:
        folder: Where they are, which Gradio serves: it makes no copy of what lies there, and
            removes a file after an hour.
        most: Results that are kept.
    """

    def __init__(self, folder: Path, most: int = MAX_RESULTS) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._most = most
        self._kept: deque[Path] = deque()

    def new(self) -> Path:
        """An empty folder."""
        self._kept.append(Path(tempfile.mkdtemp(dir=self._folder)))
        if len(self._kept) > self._most:
            shutil.rmtree(self._kept.popleft())
        return self._kept[-1]
