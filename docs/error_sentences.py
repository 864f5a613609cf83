"""A Sphinx directive that lists every error sentence of the project, read from its source.

Every wrong input ends in an ``InputError`` with one sentence. Their texts are literals where they
are raised, so that a page can list them all and never falls behind.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
PARTS = ('mmagic_cm', 'tools', 'demo')
ERRORS = ('InputError', 'BadImageError')


def _text(node: ast.expr) -> str:
    """The text of a message, with what is filled in as an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return '…'


def collect() -> Iterator[tuple[str, str]]:
    """Pairs of a file, as ``mmagic_cm/datasets/lsun.py``, and a sentence that it raises.

    Sentences that are put together elsewhere have no text of their own and are left out.
    """
    for path in sorted(path for part in PARTS for path in (ROOT / part).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', None) in ERRORS:
                text = ' '.join(_text(node.args[0]).split())
                if sum(letter.isalpha() for letter in text) > 6:
                    yield str(path.relative_to(ROOT)), text


class ErrorSentences(SphinxDirective):
    """``{error-sentences}``: all of them, by file."""

    def run(self) -> list[nodes.Node]:
        """A definition list: files, and the sentences that each raises."""
        found = defaultdict(dict)
        for file, sentence in collect():
            found[file][sentence] = None
        listing = nodes.definition_list(support_smartquotes=False)  # --option keeps its dashes
        for file, sentences in found.items():
            items = [nodes.list_item('', nodes.paragraph(text=sentence)) for sentence in sentences]
            listing += nodes.definition_list_item(
                '',
                nodes.term('', '', nodes.literal(text=file)),
                nodes.definition('', nodes.bullet_list('', *items)),
            )
            self.env.note_dependency(str(ROOT / file))
        return [listing]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.add_directive('error-sentences', ErrorSentences)
    return dict(parallel_read_safe=True)
