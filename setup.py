"""The part of the build that pyproject.toml cannot declare: the folder ``.mim`` of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ('configs', 'tools', 'demo', 'model-index.yml')
SKIPPED = {'work_dirs', '.ipynb_checkpoints'}  # what the tutorial leaves in demo/
SUFFIXES = {'.py', '.sh', '.yml', '.md', '.ipynb'}


class BuildWithMim(build_py):
    """Copies configs and commands into the package as ``.mim``, where mim and MMEngine's hub look.

    As top-level packages ``configs`` and ``tools`` would clash with those of other projects. An
    editable install runs those of the checkout and copies nothing.
    """

    def _mim_files(self) -> dict[str, str]:
        """What is copied where, both as paths from the root of the repository."""
        if self.editable_mode:
            return {}
        target = Path(self.build_lib, 'mmagic_cm', '.mim')
        found = [path for part in PARTS for path in (Path(part), *Path(part).rglob('*'))]
        files = sorted(
            path
            for path in found
            if path.is_file() and path.suffix in SUFFIXES and not SKIPPED & {*path.parts}
        )
        return {str(target / path): str(path) for path in files}

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        # What an earlier build left: a config that was renamed since is not to come along.
        shutil.rmtree(Path(self.build_lib, 'mmagic_cm', '.mim'), ignore_errors=True)
        for target, source in self._mim_files().items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the build."""
        return [*super().get_outputs(include_bytecode), *self._mim_files()]

    def get_output_mapping(self) -> dict[str, str]:
        """All files of the build, with those that they are copies of."""
        return {**super().get_output_mapping(), **self._mim_files()}


setup(cmdclass={'build_py': BuildWithMim})
