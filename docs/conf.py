"""How Sphinx builds the documents: ``make docs``."""

import os
import re
import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r'\]\((?!\w+:|#)(?P<file>[^)#\s]+)(?P<end>[)#])')
sys.path.insert(0, str(DOCS))

project = 'mmagic-cm'
author = 'The mmagic-cm developers'
copyright = '2026, ' + author
version = release = metadata.version('mmagic-cm')

extensions = [
    'myst_parser',
    'sphinx.ext.apidoc',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'api_reference',
    'error_sentences',
]
exclude_patterns = ['_build']
myst_heading_anchors = 4
html_theme = 'furo'
html_title = 'mmagic-cm'

# The API reference, a page a room, from docstrings. The page needs the extra `web`, and nobody
# imports it.
apidoc_modules = [
    dict(
        path='../mmagic_cm',
        destination='api/',
        exclude_patterns=['../mmagic_cm/web'],
        module_first=True,
        automodule_options={'members', 'show-inheritance'},
    )
]
autodoc_default_options = {'ignore-module-all': True}
autodoc_inherit_docstrings = False  # what MMEngine's and torch's classes say is in their documents
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # properties are described once
python_maximum_signature_line_length = 88
smartquotes_action = 'De'  # dashes, but no quotes: 'auto' is to be copied as it is
toc_object_entries_show_parents = 'hide'

# Files of the repository that are pages here, too. A page of this name under docs/ is a stub.
PAGES = {
    'contributing': 'CONTRIBUTING.md',
    'changelog': 'CHANGELOG.md',
    'model_zoo': 'configs/consistency_models/README.md',
}
ROOT = DOCS.parent


def read_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the file in the place of its stub, and let links lead to pages where there are any."""
    folder = DOCS
    if page in PAGES:
        source[0] = (ROOT / PAGES[page]).read_text()
        folder = (ROOT / PAGES[page]).parent
        app.env.note_dependency(str(ROOT / PAGES[page]))
    pages = {str(ROOT / file): f'{name}.md' for name, file in PAGES.items()}

    def lead(link: re.Match) -> str:
        target = os.path.normpath(folder / link['file'])
        return f']({pages.get(target) or os.path.relpath(target, DOCS)}{link["end"]}'

    source[0] = LINK.sub(lead, source[0])


def setup(app: Sphinx) -> None:
    """Sphinx's entry."""
    app.connect('source-read', read_pages)
