"""Consistency models (arXiv:2303.01469) for OpenMMLab: train, sample and serve them."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_TABLE = 'mmengine.config.utils'


def __getattr__(name: str) -> str:
    if name == '__version__':
        from importlib.metadata import version

        return version('mmagic-cm')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _enter(utils: ModuleType) -> None:
    """Let mmengine.hub and ``_base_ = 'mmagic_cm::...'`` answer for this package.

    They do for those in this table only, and it has no other way in; nothing is overwritten. Of the
    value they take the folder: as a module it has one in an editable install, too, where that of
    the distribution's name is one of site-packages that is not there.
    """
    utils.MODULE2PACKAGE.setdefault('mmagic_cm', 'mmagic_cm.utils')


class _OnceItIsImported(MetaPathFinder):
    """Enters us when somebody imports MMEngine, which takes seconds that ``--help`` has not."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _enter(module)

        spec.loader.exec_module = exec_module
        return spec


# The one effect of importing this package.
if _TABLE in sys.modules:
    _enter(sys.modules[_TABLE])
else:
    sys.meta_path.insert(0, _OnceItIsImported())
