"""Consistency models (arXiv:2303.01469) for OpenMMLab: train, sample and serve them."""

from importlib.metadata import version

from mmengine.config.utils import MODULE2PACKAGE

__version__ = version('mmagic-cm')

# mmengine.hub and `_base_ = 'mmagic_cm::...'` answer for the packages in this table only, and it
# has no other way in. The one effect of importing this package; it overwrites nothing.
MODULE2PACKAGE.setdefault('mmagic_cm', 'mmagic_cm')
