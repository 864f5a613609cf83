"""The API reference leaves out no module by accident."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / 'docs/api').glob('*.md'))

# Modules, and all below them, that the reference leaves out, and why.
LEFT_OUT = {
    'mmagic_cm.benchmarks': 'parts of tools/benchmark.py, which docs/performance.md describes',
    'mmagic_cm.command_line': 'options that our own command lines share',
    'mmagic_cm.web': 'parts of the page, which docs/web.md describes; it needs the extra `web`',
}


def public_modules() -> set[str]:
    found = set()
    for path in (ROOT / 'mmagic_cm').rglob('*.py'):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[-1] == '__init__':
            parts = parts[:-1]
        if not any(part.startswith('_') for part in parts):
            found.add('.'.join(parts))
    return found - {'mmagic_cm'}


def is_left_out(module: str) -> bool:
    return any(module == name or module.startswith(f'{name}.') for name in LEFT_OUT)


def test_every_module_is_in_the_reference_once_or_left_out_on_purpose():
    listed = Counter(
        module for page in PAGES for module in re.findall(r'automodule:: (\S+)', page.read_text())
    )
    assert {module for module in public_modules() if not is_left_out(module)} == set(listed)
    assert set(listed.values()) == {1}
    assert LEFT_OUT.keys() <= public_modules()


def test_members_are_described_where_they_are_defined():
    # A package is an introduction and a list of names (docs/conf.py); its modules describe them.
    for page in PAGES:
        for module, members in re.findall(r'automodule:: (\S+)\n( +:members:)?', page.read_text()):
            is_package = (ROOT / module.replace('.', '/')).is_dir()
            assert bool(members) != is_package, module


def test_overview_names_every_page():
    text = (ROOT / 'docs/api.md').read_text()
    pages = {f'api/{page.stem}' for page in PAGES}
    assert set(re.search(r':hidden:\n(.*?)```', text, re.S)[1].split()) == pages
    assert set(re.findall(r'\]\((api/\w+)\.md\)', text)) == pages
