"""Consistency models (arXiv:2303.01469) for OpenMMLab: train, sample and serve them."""

from importlib.metadata import version

__version__ = version('mmagic-cm')
