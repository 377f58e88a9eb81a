"""What the optimiser does with each parameter: which rate, which decay, and when."""

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import Tensor, nn

from models.errors import ConfigError, MemberError
from models.training.options import Schedule, TrainingOptions
from models.training.task import ParameterGroup


def rate_factor(step: int, total: int, warmup: int, schedule: Schedule) -> float:
    """The share of its full learning rate that step `step` of `total` (from 0) takes.

    It rises in a line over the first `warmup` steps, never from 0, since a step that changes
    nothing is a step lost, and falls to almost 0 at the last step unless it is constant.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(total - warmup, 1)
    return 1 - done if schedule == "linear" else (1 + cos(pi * done)) / 2


def rate_of(depth: int, options: TrainingOptions) -> float:
    """The full learning rate of parameters at `depth`: the head's at 0, falling below layer 1."""
    if options.learning_rate is None:
        raise ConfigError("learning_rate is not set; expected a number, such as 5e-5")
    if depth == 0:
        return options.head_learning_rate or options.learning_rate
    return options.learning_rate * options.layer_decay ** (depth - 1)


def adamw(
    module: nn.Module, groups: Sequence[ParameterGroup], options: TrainingOptions
) -> torch.optim.AdamW:
    """AdamW over `groups`, each at its rate; biases and norms (vectors) have no weight decay.

    Every parameter of `module` that takes a gradient must be in exactly one group: one forgotten
    would silently stay as it was drawn.
    """
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    takes = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    if forgotten := sorted(named[key] for key in takes - set(grouped)):
        raise MemberError(
            f"parameters {', '.join(forgotten)} take a gradient and are in no group; expected "
            "each in one, or frozen"
        )
    settings = []
    for group in groups:
        rate = rate_of(group.depth, options)
        for decay, vectors in ((options.weight_decay, False), (0.0, True)):
            chosen = [p for p in group.parameters if p.requires_grad and (p.ndim < 2) == vectors]
            if chosen:
                settings.append(
                    {"params": chosen, "lr": rate, "full_rate": rate, "weight_decay": decay}
                )
    if not settings:
        raise MemberError("no parameter takes a gradient; expected at least those of a head")
    # One kernel for all parameters instead of several for each, on a CPU too.
    return torch.optim.AdamW(settings, fused=True)


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its full rate times `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * factor


def optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state by the name of its parameter, as in "head.weight|step"."""
    return {
        f"{name}|{what}": value
        for name, parameter in module.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, what = key.rpartition("|")
        states.setdefault(name, {})[what] = value
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state = {
        place: states[name_of[id(parameter)]]
        for place, parameter in enumerate(parameters)
        if name_of[id(parameter)] in states
    }
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
