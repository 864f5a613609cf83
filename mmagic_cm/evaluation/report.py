"""What judging ends in: a table to read, and a JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..io.files import writing

CAVEAT = (
    'This model was trained with LPIPS. LPIPS and the Inception network of FID were both trained '
    'on ImageNet, so FID may flatter it beside models that were trained without.'
)


def format_table(figures: Mapping[str, float], paper: Mapping[str, float] | None = None) -> str:
    """Figures, a line each, with the published ones beside them.

    Args:
        figures: By name; what stands before a '/' does not count for ``paper``.
        paper: Published figures by name.
    """
    width = max(map(len, ['metric', *figures]))
    lines = [f'{"metric":{width}}  {"this run":>10}' + (f'  {"paper":>8}' if paper else '')]
    for name, value in figures.items():
        published = (paper or {}).get(name.rsplit('/', 1)[-1])
        beside = '' if published is None else f'  {published:8g}'
        lines.append(f'{name:{width}}  {value:10.5g}{beside}')
    return '\n'.join(lines)


def format_about(about: Mapping[str, Any]) -> str:
    """What figures depend on, a line each; what is not known is left out."""
    known = {name: value for name, value in about.items() if value is not None}
    width = max(map(len, known), default=0)
    lines = []
    for name, value in known.items():
        text = f'{value:,}' if type(value) is int else str(value)
        lines.append(f'{name:{width}}  {text}')
    return '\n'.join(lines)


def write_report(path: str | Path, figures: Mapping[str, float], about: Mapping[str, Any]) -> Path:
    """Write JSON: the figures by name, and under 'about' what they depend on."""
    path = Path(path)
    with writing(path):
        path.write_text(json.dumps({**figures, 'about': about}, indent=2, default=str) + '\n')
    return path
