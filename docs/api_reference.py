"""A Sphinx extension: what the API reference has beyond autodoc."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def list_exports(
    app: Sphinx, what: str, name: str, package: Any, options: dict, lines: list[str]
) -> None:
    """Say what can be imported from a package itself; it is described where it is defined."""
    if hasattr(package, '__path__') and hasattr(package, '__all__'):
        exports = [getattr(package, export) for export in package.__all__]
        links = [
            f':py:obj:`{export} <{value.__module__}.{value.__qualname__}>`'
            if hasattr(value, '__qualname__')
            else f'``{export}``'
            for export, value in zip(package.__all__, exports, strict=True)
        ]
        lines += ['', f'``{name}`` itself has {", ".join(links)}.', '']


def choose_bases(app: Sphinx, name: str, cls: type, options: dict, bases: list) -> None:
    """For private bases name the public ones above them."""
    for i, base in enumerate(bases):
        if base.__name__.startswith('_'):
            bases[i] = next(above for above in base.__mro__ if above.__name__[0] != '_')


def search_package(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element
) -> nodes.Element | None:
    """Find what a docstring names without its module, or by the package that exports it."""
    if node.get('refdomain') != 'py':
        return None
    python, name = env.domains.python_domain, node['reftarget']
    if name.startswith('mmagic_cm.'):
        name = name.rpartition('.')[2]
    found = python.find_obj(env, None, None, name, node['reftype'], searchmode=1)
    if len(found) != 1:
        return None
    [(name, entry)] = found
    return make_refnode(
        app.builder, node['refdoc'], entry.docname, entry.node_id, content, title=name
    )


def setup(app: Sphinx) -> dict:
    """Sphinx's entry."""
    app.connect('missing-reference', search_package)
    app.connect('autodoc-process-docstring', list_exports)
    app.connect('autodoc-process-bases', choose_bases)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
