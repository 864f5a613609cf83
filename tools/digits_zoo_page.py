"""The page that ``tools/digits_zoo.py`` writes: a table, what does not pay, a figure."""

import datetime
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmagic_cm.errors import InputError
from mmagic_cm.io.files import existing_file, in_place_of
from mmagic_cm.plotting.metrics import Result, plot_against_evaluations
from mmagic_cm.plotting.runs import save_figure

USUAL = 'ect'  # what `make demo` trains: what others are held against
MARKS = '<!-- zoo: begin -->\n', '<!-- zoo: end -->\n'
FIGURES = 'accuracy', 'frechet_distance', 'frechet_distance_to_kept', 'near_copies'


def whole(result: Mapping, key: str) -> float:
    """A figure of a training with its teacher's."""
    return result[key] + (whole(result['teacher'], key) if result['teacher'] else 0)


def by_sampler(results: Sequence[Mapping]) -> dict[int, dict[str, list]]:
    """Figures of all seeds, by number of evaluations a digit and by name."""
    found: dict[int, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for sample in result['samples']:
            for name in FIGURES:
                found[sample['num_evaluations']][name].append(sample[name])
    return found


def mean_distance(results: Sequence[Mapping]) -> dict[int, float]:
    """Mean Fréchet distance to the training digits, by evaluations a digit."""
    return {
        n: statistics.mean(figures['frechet_distance'])
        for n, figures in by_sampler(results).items()
    }


def spread(values: Sequence[float | None], form: str) -> str:
    """Mean of the seeds, and how far from it the farthest is."""
    if None in values:
        return '-'
    mean = statistics.mean(values)
    text = format(mean, form)
    if len(values) > 1:
        text += f' ± {format(max(abs(value - mean) for value in values), form)}'
    return text


def table(
    rows: Mapping[str, Sequence[Mapping]], not_run: Mapping[str, str], real: Mapping[str, float]
) -> str:
    """What came of the modes, the nearest to real digits first, as Markdown."""
    titles = ['mode', 'iterations', 'evaluations in training', 'seconds', 'evaluations a digit']
    titles += ['accuracy', 'Fréchet distance', 'to the kept digits', 'near copies']
    lines = [titles, ['---'] * len(titles)]
    forms = '.3f', '.2f', '.2f', '.1%'
    for name in sorted(rows, key=lambda name: min(mean_distance(rows[name]).values())):
        results = rows[name]
        teacher = results[0]['teacher']
        iterations = f'{teacher["iterations"]:,} + ' if teacher else ''
        iterations += f'{results[0]["iterations"]:,}'
        evaluations = f'{whole(results[0], "evaluations"):,}'
        seconds = spread([whole(result, 'seconds') for result in results], '.0f')
        for n, figures in by_sampler(results).items():
            values = [spread(figures[key], form) for key, form in zip(FIGURES, forms, strict=True)]
            lines.append([name, iterations, evaluations, seconds, str(n), *values])
    values = [format(real[key], form) for key, form in zip(FIGURES, forms, strict=True)]
    lines.append(['real digits kept from training', '', '', '', '', *values])
    lines += [[name, f'not run: {why}', *[''] * 7] for name, why in not_run.items()]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def behind(rows: Mapping[str, Sequence[Mapping]]) -> list[str]:
    """Modes that come no nearer to the digits than the usual one, at no number of evaluations."""
    distances = {name: mean_distance(results) for name, results in rows.items()}
    usual = distances.get(USUAL, {})
    return [
        name
        for name, own in distances.items()
        if name != USUAL
        and (shared := usual.keys() & own.keys())
        and all(own[n] > usual[n] for n in shared)
    ]


def write_page(
    page: Path,
    rows: Mapping[str, Sequence[Mapping]],
    not_run: Mapping[str, str],
    real: Mapping[str, float],
    budget: int,
) -> None:
    """Put table and figure into the page, between the marks."""
    seeds = sorted({result['seed'] for results in rows.values() for result in results})
    lines = [
        f'{datetime.date.today()}, torch {torch.__version__}, threads: {torch.get_num_threads()}; '
        f'seeds {", ".join(map(str, seeds))}, with the farthest from the mean after ±. Each mode '
        f'had {budget:,} evaluations of networks on an image, with gradients counting for three. '
        f'A teacher took up to half of those of its student: `iterations` are its own and the '
        f"student's, `seconds` of both.",
        table(rows, not_run, real),
    ]
    if late := behind(rows):
        lines.append(
            f'No nearer to the training digits than `{USUAL}` with as many evaluations, at any '
            f'number of steps, and so not worth their while at this size: {", ".join(late)}.'
        )
    if rows:
        points = [
            Result(page, name, n, dict(frechet_distance=distance))
            for name, results in rows.items()
            for n, distance in mean_distance(results).items()
        ]
        picture = page.with_suffix('.png')
        save_figure(plot_against_evaluations(points), picture)
        lines.append(f'![Fréchet distance against evaluations a digit]({picture.name})')
    before, after = read_page(page)
    with in_place_of(page) as fresh:
        fresh.write_text('\n\n'.join([before + MARKS[0].strip(), *lines, MARKS[1] + after]))


def read_page(page: Path) -> tuple[str, str]:
    """What stands before and after the marks.

    Raises:
        InputError: There is no page, or it lacks them.
    """
    text = existing_file(page, 'page').read_text()
    parts = re.split('|'.join(MARKS), text)
    if len(parts) != 3:
        raise InputError(f'{page} has no lines {" and ".join(map(str.strip, MARKS))}.')
    return parts[0], parts[2]
