"""Train every mode on the digits at equal compute, and write what came of it into docs/.

``python tools/digits_zoo.py [--modes ect ict] [--seeds 0,1,2] [--budget EVALUATIONS]``

Compute is counted in evaluations of networks on one image: a forward pass is one, a pass with
gradients three, the target's and the teacher's one each; what a teacher's own training took counts
for its student. What is done, ``result.json`` in the folder of a run, is not done again.
"""

import argparse
import bisect
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagic_cm.cli import Parser, parse_count, parse_integers
from mmagic_cm.errors import InputError, closest, run_cli

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmagic_cm.metrics import DigitsJudge

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs/consistency_models'
LEAF = re.compile(r'(?P<mode>[\w-]+)_\d+xb\d+-digits(?P<variant>-\w+)?-8x8')
USUAL = 'ect'  # what `make demo` trains: its run is the budget
TEACHER_SHARE = 2  # of a distillation's budget its teacher gets one part in so many
PER_CLASS = 140
ONE_STEP = dict(type='OnestepSampler')
TWO_STEPS = dict(type='MultistepSampler', sigmas=(80.0, 1.3))
# Ends of the stages as shares of the run, and evaluations of an iteration in each.
Stages = list[tuple[float, int]]


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description='Train every mode on the digits at equal compute; write table and figure'
    )
    parser.add_argument('--modes', nargs='+', metavar='MODE', help='default: all that have a leaf')
    parser.add_argument('--seeds', type=parse_integers, default=(0, 1, 2), help='default: 0,1,2')
    parser.add_argument(
        '--budget',
        type=parse_count,
        metavar='EVALUATIONS',
        help=f"of networks on one image, for each mode; default: what {USUAL}'s config takes",
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/digits_zoo'))
    parser.add_argument(
        '--page',
        type=Path,
        default=ROOT / 'docs/digits_zoo.md',
        help='with the marks between which the table goes; the figure goes beside it',
    )
    return parser.parse_args()


def find_leaves() -> dict[str, Path]:
    """The digits' training configs by mode: 'ect', 'ect-ddpmpp'."""
    return {mode: path for path in sorted(CONFIGS.glob('*.py')) if (mode := mode_of(path.stem))}


def mode_of(name: str) -> str | None:
    """The mode that a config's name says, None where it is not one of the digits'."""
    match = LEAF.fullmatch(name)
    return match and match['mode'] + (match['variant'] or '')


def count_stages(config: 'Config') -> Stages:
    """What an iteration of a config evaluates."""
    from analysis_tools.get_flops import WITH_GRADIENT, training_evaluations

    from mmagic_cm.registry import MODELS

    model, steps = MODELS.build(config.model), config.train_cfg.max_iters
    ends, stages = getattr(model.objective, 'ends', [1.0]), []
    for begin, end in zip([0.0, *ends], ends, strict=False):
        calls = training_evaluations(model, round(begin * steps), steps)
        passes = (WITH_GRADIENT - 1) * calls['online'] + sum(calls.values())
        stages.append((end, passes * config.train_dataloader.batch_size))
    return stages


def cost(stages: Stages, iterations: int) -> int:
    """Evaluations of a run of so many iterations."""
    ends = [round(end * iterations) for end, _ in stages]
    return sum(
        (end - begin) * each
        for begin, end, (_, each) in zip([0, *ends], ends, stages, strict=False)
    )


def iterations_for(stages: Stages, budget: int) -> int:
    """The most iterations that a budget pays.

    Raises:
        InputError: Not one.
    """
    found = bisect.bisect(range(budget), budget, key=lambda n: cost(stages, n)) - 1
    if found < 1:
        raise InputError(f'A budget of {budget:,} evaluations pays no iteration of it.')
    return found


def set_iterations(config: 'Config', iterations: int) -> None:
    """Give a run this length, and what its objective counts in steps the same share of it.

    A progressive distillation ends with the last of its stages, a little before.
    """
    from mmagic_cm.registry import CURRICULA

    share = iterations / config.train_cfg.max_iters
    for settings in _dicts(config.model.objective):
        for key in {'steps_per_stage', 'warmup_steps'} & settings.keys():
            settings[key] = max(int(settings[key] * share), 1)
    checkpoint = config.default_hooks.checkpoint
    if is_progressive(config):
        curriculum = config.model.objective.curriculum
        iterations = CURRICULA.build(curriculum).total_steps
        # The last three are kept, and the last stage takes two intervals.
        checkpoint.interval = curriculum.steps_per_stage
    else:
        checkpoint.interval = iterations
    config.train_cfg.max_iters = iterations


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from _dicts(part)


def is_progressive(config: 'Config') -> bool:
    """Whether the number of steps of its student is halved from stage to stage."""
    return config.model.objective.type == 'ProgressiveDistillation'


def samplings(config: 'Config', folder: Path) -> list[tuple[dict, Path]]:
    """By which samplers a trained mode is judged, each with its checkpoint."""
    iterations = config.train_cfg.max_iters
    last = folder / f'iter_{iterations}.pth'
    if config.model.objective.type == 'DenoisingScoreMatching':
        return [(config.model.sampler, last)]
    if is_progressive(config):
        before = iterations - 2 * config.default_hooks.checkpoint.interval
        own = [(1, last), (2, folder / f'iter_{before}.pth')]
        return [(dict(type='ProgressiveSampler', num_steps=n), path) for n, path in own]
    return [(ONE_STEP, last), (TWO_STEPS, last)]


def run_mode(
    mode: str, seed: int, budget: int, work_dir: Path, judge: 'DigitsJudge'
) -> dict[str, Any]:
    """Train and judge a mode, its teacher first where it has one, unless that is done.

    Returns:
        ``iterations``, ``evaluations`` and ``seconds`` of its training without its teacher's,
        ``teacher`` (what this returns of it, or None), ``samples`` (of each sampler its
        ``num_evaluations`` and the figures).

    Raises:
        InputError: It cannot be run.
    """
    from mmagic_cm.apis import load_config
    from mmagic_cm.io.files import in_place_of

    folder = work_dir / str(seed) / f'{mode}-{budget}'
    done = folder / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    config, teacher, rest = load_config(find_leaves()[mode]), None, budget
    file = config.model.get('teacher', {}).get('checkpoint')
    if file is not None:
        source, share = mode_of(Path(file).parent.name), budget // TEACHER_SHARE
        teacher = run_mode(source, seed, share, work_dir, judge)
        path = work_dir / str(seed) / f'{source}-{share}' / f'iter_{teacher["iterations"]}.pth'
        config.model.teacher.checkpoint = str(path)
        rest -= teacher['evaluations']
    stages = count_stages(config)
    set_iterations(config, iterations_for(stages, rest))
    print(f'{folder}: {config.train_cfg.max_iters} iterations', flush=True)
    result = dict(
        mode=mode,
        seed=seed,
        iterations=config.train_cfg.max_iters,
        evaluations=cost(stages, config.train_cfg.max_iters),
        seconds=train(config, seed, folder),
        teacher=teacher,
        samples=[judge_samples(config, *each, seed, judge) for each in samplings(config, folder)],
    )
    with in_place_of(done) as fresh:
        fresh.write_text(json.dumps(result, indent=2) + '\n')
    return result


def train(config: 'Config', seed: int, folder: Path) -> float:
    """Train a config; seconds."""
    from mmagic_cm.engine import Runner

    # MMEngine's logs are global, by the name of the experiment.
    config.work_dir = config.experiment_name = str(folder)
    config.randomness.seed = seed
    config.log_level = 'ERROR'  # the bar says what there is to say
    config.custom_hooks.append(dict(type='ProgressBarHook'))
    runner = Runner.from_cfg(config)
    start = time.perf_counter()
    runner.train()
    return time.perf_counter() - start


def judge_samples(
    config: 'Config', sampler: dict, checkpoint: Path, seed: int, judge: 'DigitsJudge'
) -> dict[str, Any]:
    """Draw 1,400 digits and judge them; no ``accuracy`` of a network that knows no labels."""
    import numpy as np

    from mmagic_cm.apis import generate, init_model
    from mmagic_cm.datasets.digits import load_split
    from mmagic_cm.metrics import frechet_distance
    from mmagic_cm.metrics.digits import pixels

    model = init_model(config, checkpoint)
    labels = np.repeat(np.arange(10), PER_CLASS)
    known = None if model.num_classes is None else labels
    images, _ = generate(model, len(labels), known, sampler, seed=seed, batch_size=350)
    figures = judge.judge(images, labels).as_dict()
    if known is None:
        figures['accuracy'] = None
    kept, _ = load_split('test')
    figures['frechet_distance_to_kept'] = frechet_distance(pixels(images), pixels(kept))
    return dict(num_evaluations=model.sampler_for(sampler).num_evaluations, **figures)


def main() -> None:
    """Run what is not done, then write the page."""
    args = parse_args()
    leaves = find_leaves()
    modes = args.modes or [*leaves]
    for mode in modes:
        if mode not in leaves:
            raise InputError(f'The digits have no mode {mode!r}.{closest(mode, leaves)}')
    from digits_zoo_page import read_page, write_page

    from mmagic_cm.apis import load_config
    from mmagic_cm.metrics import DigitsJudge

    read_page(args.page)
    budget = args.budget
    if budget is None:
        config = load_config(leaves[USUAL])
        budget = cost(count_stages(config), config.train_cfg.max_iters)
    judge = DigitsJudge()
    rows: dict[str, list] = defaultdict(list)
    teachers: dict[str, dict[int, dict]] = defaultdict(dict)
    not_run = {}
    for seed in args.seeds:
        for mode in modes:
            try:
                result = run_mode(mode, seed, budget, args.work_dir, judge)
            except InputError as error:
                print(f'{mode} is not run: {error}', flush=True)
                not_run[mode] = str(error).partition(': ')[0]  # why; then, what to do
                continue
            rows[mode].append(result)
            if teacher := result['teacher']:
                teachers[f'{teacher["mode"]}, the teacher'][seed] = teacher
    rows |= {name: [*results.values()] for name, results in teachers.items()}
    real = judge.real.as_dict() | dict(frechet_distance_to_kept=0.0)
    write_page(args.page, rows, not_run, real, budget)
    print(f'The table is in {args.page}, the figure beside it.')


if __name__ == '__main__':
    run_cli(main)
