"""Train a consistency model on real digits, draw with it, judge it: what ``make demo`` runs."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mmagic_cm.cli import Parser, add_config_options
from mmagic_cm.errors import InputError, run_cli

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/consistency_models/ect_1xb96-digits-8x8.py'
MARK = '.digits_demo'  # lies in a folder of this demo from the beginning
PER_CLASS = 140
ONE_STEP = dict(type='OnestepSampler')
TWO_STEPS = dict(type='MultistepSampler', sigmas=(80.0, 1.3))


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    add_config_options(parser, 'train_cfg.max_iters=100')
    return parser.parse_args()


def clear(work_dir: Path) -> None:
    """Remove what an earlier run left, whenever it was stopped; other folders are not touched."""
    from mmagic_cm.io.locks import Lock

    if work_dir.exists() and any(work_dir.iterdir()):
        if not any((work_dir / name).is_file() for name in (MARK, 'last_checkpoint')):
            raise InputError(f'{work_dir} holds other files: name an empty folder.')
        with Lock(work_dir / '.lock', work_dir):  # not under a demo that is at work
            shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / MARK).touch()


def train(work_dir: Path, options: dict) -> tuple[Path, dict]:
    """Train the config; the path of the checkpoint, and what was done."""
    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets import merge_options
    from mmagic_cm.engine import Runner

    cfg = load_config(CONFIG)
    merge_options(cfg, options)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'  # the bar says what there is to say
    del cfg.default_hooks.run_summary
    cfg.custom_hooks.append(dict(type='ProgressBarHook'))
    runner = Runner.from_cfg(cfg)
    start = time.perf_counter()
    runner.train()
    seconds = time.perf_counter() - start
    facts = dict(
        config=CONFIG.name,
        iterations=runner.max_iters,
        batch_size=runner.train_dataloader.batch_size,
        parameters=sum(p.numel() for p in runner.model.denoiser.parameters()),
        training_seconds=round(seconds, 1),
        iterations_per_second=round(runner.max_iters / seconds, 2),
    )
    return work_dir / f'iter_{runner.max_iters}.pth', facts


def table(rows: dict[str, dict[str, float]]) -> str:
    """Figures beside those of real digits, as text."""
    lines = [f'{"":34}{"accuracy":>10}{"Fréchet distance":>19}{"near copies":>14}']
    for name, row in rows.items():
        lines.append(
            f'{name:34}{row["accuracy"]:>10.3f}{row["frechet_distance"]:>19.2f}'
            f'{row["near_copies"]:>14.1%}'
        )
    return '\n'.join(lines)


def main() -> None:
    """Train, draw, judge, and draw once more through MMagic."""
    args = parse_args()
    import numpy as np
    from digits_gallery import draw_gallery

    from mmagic_cm.apis import generate, init_model
    from mmagic_cm.io.images import make_grid, save_image, save_npz
    from mmagic_cm.metrics import DigitsJudge

    clear(args.work_dir)
    print(f'Training {CONFIG.name} on 1,400 handwritten digits; all goes to {args.work_dir}.')
    checkpoint, training = train(args.work_dir, args.cfg_options)

    model = init_model(CONFIG, checkpoint)
    labels = np.repeat(np.arange(10), PER_CLASS)
    judge = DigitsJudge()
    images, _ = generate(model, len(labels), labels, ONE_STEP, batch_size=350, progress=True)
    refined, _ = generate(model, len(labels), labels, TWO_STEPS, batch_size=350, progress=True)
    rows = {
        'drawn in one step': judge.judge(images, labels).as_dict(),
        'drawn in two steps': judge.judge(refined, labels).as_dict(),
        'real digits kept from training': judge.real.as_dict(),
    }
    save_npz(images, labels, args.work_dir / 'samples.npz')
    shown = images.reshape(10, PER_CLASS, *images.shape[1:])[:, :20].reshape(-1, 8, 8, 1)
    grid = make_grid(shown, 20, row_labels=[str(digit) for digit in range(10)], cell_size=48)
    save_image(grid, args.work_dir / 'samples.png')
    print('\nEditing without training for it: half a digit, a small one, a noisy one, a walk.')
    gallery = draw_gallery(model, args.work_dir)
    report = dict(training=training, samples=rows)
    (args.work_dir / 'report.json').write_text(json.dumps(report, indent=2) + '\n')

    print(f'\nTrained for {training["training_seconds"]} s. {len(labels)} digits a row, judged:\n')
    print(table(rows))
    print(
        '\naccuracy: read as their label by a classifier that saw only real training digits\n'
        'Fréchet distance: to the real training digits, in pixel space (less is nearer)\n'
        'near copies: nearer to a training digit than half the distance usual for real ones\n'
    )
    draw_through_mmagic(checkpoint, args.work_dir / 'mmagic_threes.png')
    print(f'\nLook at {args.work_dir / "samples.png"}, and at the edited digits:')
    print(*gallery, sep='\n')


def draw_through_mmagic(checkpoint: Path, picture: Path) -> None:
    """The command that OpenMMLab users type, on the checkpoint just trained."""
    demo = 'demo/mmagic_inference_demo.py'
    flags = ['--model-name', 'consistency_models', '--model-config', CONFIG.relative_to(ROOT)]
    flags += ['--model-ckpt', checkpoint, '--label', '3', '--result-out-dir', picture]
    command = [demo, *map(str, flags)]
    print("And through MMagic's own inferencer (its import takes a while):")
    print('python', ' '.join(command), flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


if __name__ == '__main__':
    run_cli(main)
