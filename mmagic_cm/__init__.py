"""Consistency models (arXiv:2303.01469) for OpenMMLab: train, sample and serve them."""

from importlib.metadata import version

from mmengine.config.utils import MODULE2PACKAGE

__version__ = version('mmagic-cm')

# mmengine.hub and `_base_ = 'mmagic_cm::...'` answer for the packages in this table only, and it
# has no other way in. The one effect of importing this package; it overwrites nothing. Of the value
# they take the folder: as a module it has one in an editable install, too, where that of the
# distribution's name is one of site-packages that is not there.
MODULE2PACKAGE.setdefault('mmagic_cm', 'mmagic_cm.utils')
