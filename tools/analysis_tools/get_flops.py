"""Count parameters and operations: ``python tools/analysis_tools/get_flops.py CONFIG``."""

import argparse
import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmagic_cm.cli import Parser, add_config_options, parse_count, parse_share
from mmagic_cm.errors import run_cli

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

    from mmagic_cm.models import ConsistencyModel

# Evaluations that one with gradients is worth: those of input and weights take one each.
WITH_GRADIENT = 3


def network_costs(config: 'Config', batch_size: int = 1, at: float = 0.5) -> dict:
    """Count the parameters and operations of a config; allocates no weights.

    Args:
        config: With the key ``model``; with an objective and ``train_cfg`` its training is
            counted, too.
        batch_size: Images of a batch.
        at: Share of the run, 0 to 1, at which a training step is counted: stages change its work.

    Returns:
        ``image_shape`` (C, H, W), ``parameters`` and ``batch_size``; then what each of these takes:
        ``evaluation`` (of the network), ``sampling`` (an image of the config's sampler) and
        ``training`` (a step). Each holds ``gflop_per_image``, ``tflop_per_batch`` and
        ``forward_passes``; training's one with gradients counts for three, and it has the
        ``evaluations`` by role ('online', 'target', 'teacher'), and as ``not_counted`` names what
        a step computes besides. A multiply-add is two operations.
    """
    import torch

    from mmagic_cm.registry import MODELS

    with torch.device('meta'):
        model = MODELS.build(config.model)
    flops = evaluation_flops(model, model.denoiser)

    def cost(passes: int, count: float) -> dict:
        return dict(
            forward_passes=passes,
            gflop_per_image=count / 1e9,
            tflop_per_batch=count * batch_size / 1e12,
        )

    # Guidance takes two, in one batch.
    sampled = model.sampler.num_evaluations * (1 if model.guidance_scale is None else 2)
    figures = dict(
        image_shape=model.image_shape,
        parameters=sum(parameter.numel() for parameter in model.denoiser.parameters()),
        batch_size=batch_size,
        evaluation=cost(1, flops),
        sampling=dict(sampler=type(model.sampler).__name__, **cost(sampled, sampled * flops)),
    )
    if model.objective is not None and 'train_cfg' in config:
        accumulated = config.optim_wrapper.get('accumulative_counts', 1)
        steps = max(config.train_cfg.max_iters // accumulated, 1)
        calls = training_evaluations(model, int(at * steps), steps)
        own = WITH_GRADIENT * calls['online'] + calls['target']
        work = own * flops
        if calls['teacher']:
            work += calls['teacher'] * evaluation_flops(model, model.teacher.denoiser)
        recomputes = getattr(model.denoiser.network, 'use_checkpoint', False)
        figures['training'] = dict(
            at=at,
            evaluations=calls,
            not_counted=[
                type(network).__name__
                for part in model.objective.modules()
                for network in getattr(part, 'frozen', ())
            ]
            + ['recomputed activations'] * recomputes,
            **cost(own + calls['teacher'], work),
        )
    return figures


def evaluation_flops(model: 'ConsistencyModel', denoiser: 'nn.Module') -> int:
    """Of one evaluation of an image, by a denoiser on the meta device."""
    import torch
    from torch._subclasses import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Networks ask for the autocast of their device, and 'meta' has none: tensors without data,
    # which say that they are on a CPU. Attention counts as its matrix products.
    counter, state = FlopCounterMode(display=False), denoiser.state_dict()
    with FakeTensorMode(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        empty = {key: torch.empty(tensor.shape) for key, tensor in state.items()}
        denoiser.load_state_dict(empty, assign=True)
        labels = None if model.num_classes is None else torch.zeros(1, dtype=torch.int64)
        denoiser.eval()(torch.zeros(1, *model.image_shape), torch.ones(1), labels)
    return counter.get_total_flops()


def training_evaluations(model: 'ConsistencyModel', step: int, total_steps: int) -> dict[str, int]:
    """Evaluations an image of a training step: 'online' (with gradients), 'target', 'teacher'.

    The objective is called with denoisers that only count. One with its derivative along a
    direction counts for two.
    """
    import torch
    from torch.autograd import forward_ad

    from mmagic_cm.objectives import StagedObjective

    counts: Counter = Counter()

    def counting(role: Callable[[], str]) -> Callable:
        def denoise(x, *_, **conditions):
            derived = forward_ad.unpack_dual(x).tangent is not None
            counts[role()] += len(x) * (2 if derived else 1)
            return x

        return denoise

    def student() -> str:  # Some objectives compare the online network with itself.
        return 'online' if torch.is_grad_enabled() else 'target'

    # Copied, since distances (LPIPS, say) are left out.
    objective = copy.deepcopy(model.objective)
    for each in objective.objectives if isinstance(objective, StagedObjective) else [objective]:
        each.distance = lambda a, b: torch.zeros(len(a))
    x0 = torch.zeros(1, *model.image_shape)
    labels = None if model.num_classes is None else torch.zeros(1, dtype=torch.int64)
    objective(
        counting(student),
        x0,
        objective.draw(x0, step, total_steps, torch.Generator().manual_seed(0)),
        labels,
        target=counting(lambda: 'target') if objective.needs_target else None,
        teacher=counting(lambda: 'teacher') if objective.needs_teacher else None,
    )
    return {role: counts[role] for role in ('online', 'target', 'teacher')}


def table(figures: dict) -> str:
    """The figures as lines of text."""
    sampling, training = figures['sampling'], figures.get('training')
    rows = [('evaluation', figures['evaluation']), (f'image by {sampling["sampler"]}', sampling)]
    if training:
        rows.append(('training step', training))
    size = f'TFLOP a batch of {figures["batch_size"]}'
    lines = [
        f'{figures["config"]}: images of {" x ".join(map(str, figures["image_shape"]))}, '
        f'{figures["parameters"] / 1e6:.4g} M parameters',
        f'  {"":32}{"forward passes":>16}{"GFLOP an image":>18}{size:>24}',
    ]
    for name, cost in rows:
        passes, image, batch = (
            cost[key] for key in ('forward_passes', 'gflop_per_image', 'tflop_per_batch')
        )
        lines.append(f'  {name:32}{passes:16}{image:18.5g}{batch:24.5g}')
    if training:
        roles = ', '.join(f'{role} {n}' for role, n in training['evaluations'].items() if n)
        lines.append(
            f'  The step at {training["at"]:g} of the run evaluates: {roles}; the online one, with '
            f'gradients, counts for three.'
        )
        if training['not_counted']:
            lines.append(f'  Not counted: {", ".join(training["not_counted"])}.')
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description='Count the parameters of a network, and the operations of an evaluation, of '
        'an image drawn and of a training step; needs neither weights nor a GPU'
    )
    parser.add_argument('config', help='config file, or a released name')
    parser.add_argument('--batch-size', type=parse_count, default=1, help='of a batch (1)')
    parser.add_argument('--at', type=parse_share, default=0.5, help='share of the run (0.5)')
    parser.add_argument('--out', type=Path, help='write the figures here, as JSON')
    add_config_options(parser, "model.sampler.type='HeunSampler'")
    return parser.parse_args()


def main() -> None:
    """Count, print, write."""
    args = parse_args()
    from mmagic_cm.apis import load_config
    from mmagic_cm.datasets import fill_num_classes, merge_options
    from mmagic_cm.io.files import writing

    config = load_config(args.config)
    merge_options(config, args.cfg_options)
    fill_num_classes(config)
    figures = dict(config=args.config) | network_costs(config, args.batch_size, args.at)
    print(table(figures))
    if args.out:
        with writing(args.out):
            args.out.write_text(json.dumps(figures, indent=2) + '\n')


if __name__ == '__main__':
    run_cli(main)
