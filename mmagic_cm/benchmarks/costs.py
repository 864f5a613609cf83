"""What a network costs by its config: parameters and operations, without its weights."""

import copy
from collections import Counter
from collections.abc import Callable

import torch
from mmengine.config import Config
from torch import nn
from torch._subclasses import FakeTensorMode

from ..errors import InputError
from ..models.consistency_model import ConsistencyModel
from ..networks.adm_unet import ADMUNet, AttentionBlock
from ..objectives.consistency import StagedObjective
from ..registry import MODELS
from .rates import WITH_GRADIENT, operations, total_flops


def network_costs(config: Config, batch_size: int = 1, at: float = 0.5) -> dict:
    """Count the parameters and operations of a config; allocates no weights.

    Args:
        config: With the key ``model``; with an objective and ``train_cfg`` its training is
            counted, too.
        batch_size: Images of a batch.
        at: Share of the run, 0 to 1, at which a training step is counted: stages change its work.

    Returns:
        ``image_shape`` (C, H, W), ``parameters``, ``parameters_by_kind`` and ``batch_size``; then
        what each of these takes: ``evaluation`` (of the network), ``sampling`` (an image of the
        config's sampler) and ``training`` (a step). Each holds ``gflop_per_image``,
        ``tflop_per_batch`` and, but for the first, ``evaluations``: a number of network
        evaluations an image, for training by role ('online', 'target', 'teacher'), with
        ``forward_passes``, where the one with gradients counts for three. A multiply-add is two.
        ``training.not_counted`` names what a step computes besides.

    Raises:
        InputError: There is no model, or its network is not one whose operations are known.
    """
    if 'model' not in config:
        raise InputError("The config has no 'model'.")
    with torch.device('meta'):
        model: ConsistencyModel = MODELS.build(config.model)
    network = model.denoiser.network
    flops = _flops(network)

    def cost(count: float) -> dict:
        return dict(gflop_per_image=count / 1e9, tflop_per_batch=count * batch_size / 1e12)

    sampled = sampling_evaluations(model)
    figures = dict(
        image_shape=model.image_shape,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        parameters_by_kind=parameters_by_kind(network),
        batch_size=batch_size,
        evaluation=cost(flops),
        sampling=dict(
            sampler=type(model.sampler).__name__, evaluations=sampled, **cost(sampled * flops)
        ),
    )
    if model.objective is not None and 'train_cfg' in config:
        accumulated = config.optim_wrapper.get('accumulative_counts', 1)
        steps = max(config.train_cfg.max_iters // accumulated, 1)
        calls = training_evaluations(model, int(at * steps), steps)
        passes = {**calls, 'online': WITH_GRADIENT * calls['online']}
        work = (passes['online'] + passes['target']) * flops
        if passes['teacher']:
            work += passes['teacher'] * _flops(model.teacher.denoiser.network)
        figures['training'] = dict(
            at=at,
            evaluations=calls,
            forward_passes=sum(passes.values()),
            not_counted=[type(each).__name__ for each in model.objective.networks]
            + ['recomputed activations'] * network.use_checkpoint,
            **cost(work),
        )
    return figures


def parameters_by_kind(network: nn.Module) -> dict[str, int]:
    """Parameters of the attention blocks and, outside of them, of the kinds of layers."""
    attention = {
        id(parameter)
        for block in network.modules()
        if isinstance(block, AttentionBlock)
        for parameter in block.parameters()
    }
    found = dict(convolutions=0, attention=0, embeddings=0, rest=0)
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in attention:
                kind = 'attention'
            elif isinstance(module, nn.Conv2d):
                kind = 'convolutions'
            elif isinstance(module, nn.Linear | nn.Embedding):
                kind = 'embeddings'
            else:
                kind = 'rest'
            found[kind] += parameter.numel()
    return found


def sampling_evaluations(model: ConsistencyModel) -> int:
    """Evaluations an image of the model's sampler; guidance takes two, in one batch."""
    return model.sampler.num_evaluations * (1 if model.guidance_scale is None else 2)


def training_evaluations(model: ConsistencyModel, step: int, total_steps: int) -> dict[str, int]:
    """Evaluations an image of a training step: 'online' (with gradients), 'target', 'teacher'.

    The objective is called with denoisers that only count.

    Args:
        model: With an objective.
        step: Optimizer steps done.
        total_steps: Optimizer steps of the whole run.
    """
    counts: Counter = Counter()

    def counting(role: Callable[[], str]) -> Callable:
        def denoise(x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor | None):
            counts[role()] += len(x)
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
    when = dict(step=step, total_steps=total_steps)
    with torch.enable_grad():
        objective(
            counting(student),
            x0,
            labels,
            **when,
            target=counting(lambda: 'target') if objective.needs_target else None,
            teacher=counting(lambda: 'teacher') if objective.needs_teacher else None,
            **objective.draw(x0, **when, generator=torch.Generator().manual_seed(0)),
        )
    return {role: counts[role] for role in ('online', 'target', 'teacher')}


def _flops(network: nn.Module) -> int:
    """Of one evaluation of an image, by a network on the meta device."""
    if not isinstance(network, ADMUNet):
        raise InputError(
            f'The operations of an ADMUNet can be counted, not those of a '
            f'{type(network).__name__}: derive it from ADMUNet.'
        )
    shapes = network.state_dict()
    # The network asks for the autocast of its device, and 'meta' has none.
    with FakeTensorMode():
        weights = {key: torch.empty(t.shape, dtype=t.dtype) for key, t in shapes.items()}
        network.load_state_dict(weights, assign=True)
        return total_flops(operations(network, 1))
