"""The page on errors speaks of sentences that the package says."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / 'docs'
# Said by others: torch, the linker, Python, MMEngine.
FOREIGN = {
    'operator torchvision::nms does not exist',
    'libGL.so.1: cannot open shared object file',
    "No module named 'pkg_resources'",
    'mmengine does not support to load mmagic_cm config.',
    'CUDA out of memory',
}


@pytest.fixture(scope='module')
def sentences() -> list[tuple[str, str]]:
    pytest.importorskip('sphinx')
    spec = importlib.util.spec_from_file_location('error_sentences', DOCS / 'error_sentences.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [*module.collect()]


def quoted() -> list[str]:
    text = (DOCS / 'troubleshooting.md').read_text()
    return re.findall(r'^\| `([^`]+)` \|', text, re.M)


def test_sentences_are_collected_with_what_is_filled_in_left_open(sentences):
    found = set(sentences)
    assert ('mmagic_cm/apis.py', "The config has no 'model'.") in found
    assert ('mmagic_cm/apis.py', 'num_samples must be at least 1, not ….') in found
    assert ('tools/train.py', '… is for sampling only: it has no train_cfg.') in found
    assert len(found) > 150


def test_quoted_sentences_are_said(sentences):
    texts = [text for _, text in sentences]
    unknown = [
        quote
        for quote in quoted()
        if quote not in FOREIGN and not any(text.startswith(quote) for text in texts)
    ]
    assert not unknown
    assert len(quoted()) > 30


def test_part_of_the_package_that_users_meet_is_quoted(sentences):
    parts = {'checkpoints', 'datasets', 'engine', 'models', 'editing', 'diffusion', 'integrations'}
    for part in parts:
        texts = [text for file, text in sentences if file.startswith(f'mmagic_cm/{part}/')]
        assert any(text.startswith(quote) for quote in quoted() for text in texts), part
