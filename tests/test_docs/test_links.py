"""Links inside of the repository lead somewhere, and the documents build without a warning."""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob('*.md'),
    *(ROOT / 'docs').glob('*.md'),
    *(ROOT / 'configs').rglob('*.md'),
]
LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)\)')


def without_code(text: str) -> str:
    return re.sub(r'^```.*?^```|`[^`\n]*`', '', text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and MyST make them."""
    found = set()
    for heading in re.findall(
        r'^#+ +(.+?) *$', re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S), re.M
    ):
        text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        kept = (c for c in text if c in ' -_' or unicodedata.category(c)[0] in 'LN')
        found.add(''.join(kept).replace(' ', '-'))
    return found


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r'\w+:', link):  # to the web: not looked at, tests have no network
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_index_names_every_page():
    text = (ROOT / 'docs/index.md').read_text()
    listed = re.search(r'```\{toctree\}\n(.*?)```', text, re.S)[1].split()
    pages = {page.stem for page in (ROOT / 'docs').glob('*.md')} - {'index'}
    assert pages == set(listed) - {':hidden:'}
    linked = {link.partition('#')[0] for link in LINK.findall(text)}
    assert {f'{page}.md' for page in pages - {'changelog'}} <= linked


@pytest.mark.slow
def test_documents_build_without_a_warning(tmp_path):
    pytest.importorskip('sphinx')
    options = f'-b html -W --keep-going -q -d {tmp_path}/trees {ROOT}/docs {tmp_path}/html'
    command = [sys.executable, '-m', 'sphinx', *options.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    html = {path.stem: path.read_text() for path in (tmp_path / 'html').rglob('*.html')}
    # Pages that are files of the repository, and the directive.
    assert 'Where things live' in html['contributing']
    assert 'href="training.html"' in html['model_zoo']
    assert 'num_samples must be at least 1' in html['troubleshooting']
    assert 'id="mmagic_cm.models.denoiser.KarrasDenoiser.forward"' in html['mmagic_cm.models']
    # Named without its module, and by the package that exports it.
    assert 'href="#mmagic_cm.objectives.base.Objective"' in html['mmagic_cm.objectives']
