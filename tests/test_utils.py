"""What MMEngine's hub asks of the package; ``test_wheel.py`` has the hub itself."""

import subprocess
import sys

import pytest

import mmagic_cm


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize('first', ['mmagic_cm', 'mmengine'])
def test_import_enters_the_package_into_the_hub_and_loads_little(first):
    code = f'import {first}'
    code += """
import sys
import mmagic_cm
from mmengine.config.utils import MODULE2PACKAGE
print(MODULE2PACKAGE['mmagic_cm'], *(name for name in sys.modules if name.startswith('mmagic_cm')))
"""
    # The hub looks for `.mim` beside the module that the table names, and imports nothing for it.
    assert run(code).split() == ['mmagic_cm.utils', 'mmagic_cm']
    assert mmagic_cm.__version__


@pytest.mark.slow
def test_register_all_modules_lets_mmengine_find_our_classes():
    # Its root registries know our scope's children once they are imported.
    code = """
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, DefaultScope
from mmagic_cm.utils import register_all_modules
register_all_modules(init_default_scope=False)
print(DefaultScope.get_current_instance())
register_all_modules()
print(DefaultScope.get_current_instance().scope_name)
for registry, name in (
    (MODELS, 'ConsistencyModel'), (DATASETS, 'DigitsDataset'),
    (HOOKS, 'EMAHook'), (METRICS, 'DigitsMetric'),
):
    with registry.switch_scope_and_registry(None) as found:
        print(found.get(name).__name__)
"""
    assert run(code).split() == [
        'None',
        'mmagic_cm',
        'ConsistencyModel',
        'DigitsDataset',
        'EMAHook',
        'DigitsMetric',
    ]
