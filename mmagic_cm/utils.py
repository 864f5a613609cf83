"""Named as OpenMMLab's tools expect it: ``mmengine.hub.get_model`` calls what is in here."""

from importlib import import_module

from mmengine import registry

from .checkpoints import register_safe_loaders


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register all our classes at once, for code that looks them up in MMEngine's registries.

    And our reader of checkpoints, for code that loads by MMEngine.

    Our own registries do without it: they import what they look up.

    Args:
        init_default_scope: Make 'mmagic_cm' MMEngine's default scope as well.
    """
    for part in ('networks', 'objectives', 'models', 'datasets', 'engine', 'metrics', 'evaluation'):
        import_module(f'.{part}', __package__)
    register_safe_loaders()
    if init_default_scope:
        registry.init_default_scope('mmagic_cm')
