"""The layers of a transformer: where its model keeps them, and what each is given in a pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Beside:
    """What a layer is given beside the states: masks, rotations, relative positions."""

    positional: tuple[Any, ...]
    named: dict[str, Any]

    def is_as(self, other: "Beside") -> bool:
        """Whether both say the same, to the last number."""
        return _alike(self.positional, other.positional) and _alike(self.named, other.named)


@dataclass(frozen=True)
class Passage:
    """What was seen of the layers in one pass through their model, call by call."""

    layers: list[int] = field(default_factory=list)  # which was called
    entered: list[Tensor] = field(default_factory=list)  # the states it was given
    beside: list[Beside] = field(default_factory=list)
    left: list[Any] = field(default_factory=list)  # what it answered


Instead: TypeAlias = Callable[[int, Tensor], Any]
"""What a layer answers, by its number and the states that enter it."""


@contextmanager
def watched(layers: Sequence[nn.Module], instead: Instead | None = None) -> Iterator[Passage]:
    """What passes through `layers` while the block lasts.

    With `instead` the layers themselves are not run, and a pass costs little more than embeddings.
    """
    passage = Passage()
    before = [vars(layer).get("forward") for layer in layers]
    try:
        for at, layer in enumerate(layers):
            layer.forward = _watching(layer, at, passage, instead)
        yield passage
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                vars(layer).pop("forward", None)
            else:
                layer.forward = forward


def _watching(
    layer: nn.Module, at: int, passage: Passage, instead: Instead | None
) -> Callable[..., Any]:
    run = layer.forward
    states_name = next(iter(signature(run).parameters))

    def forward(*positional: Any, **named: Any) -> Any:
        states = positional[0] if positional else named.pop(states_name)
        passage.layers.append(at)
        passage.entered.append(states)
        passage.beside.append(Beside(positional[1:], named))
        answer = run(states, *positional[1:], **named) if instead is None else instead(at, states)
        passage.left.append(answer)
        return answer

    return forward


def layers_name(model: Any) -> str | None:
    """The name within `model` of the list of its layers; None where there is not exactly one."""
    count = getattr(model.config, "num_hidden_layers", None)
    found: list[str] = []
    for name, module in model.named_modules():  # outer ones first
        is_list = isinstance(module, nn.ModuleList) and len(module) == count
        # Lists within a layer, as of its experts, may happen to be as long.
        if is_list and not name.startswith(tuple(f"{outer}." for outer in found)):
            found.append(name)
    return found[0] if len(found) == 1 else None


def names_around(model: nn.Module, layers: str) -> list[str]:
    """The names of the largest modules that neither hold the list called `layers` nor lie in it."""
    found: list[str] = []
    for name, _ in model.named_modules():
        holds = not name or f"{layers}.".startswith(f"{name}.")
        if not holds and not name.startswith(tuple(f"{outer}." for outer in (layers, *found))):
            found.append(name)
    return found


def states_of(answer: Any) -> Tensor:
    """The states in what a layer answers: alone, or the first of several things."""
    states: Tensor = answer[0] if isinstance(answer, tuple) else answer
    return states


def form_of(answer: Any) -> int:
    """In what form a layer answers: as a tuple of so many things, or 0 for the states alone."""
    return len(answer) if isinstance(answer, tuple) else 0


def in_form(states: Tensor, form: int) -> Any:
    """`states` as a layer would answer them in that form."""
    return (states, *(None for _ in range(form - 1))) if form else states


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    # Of anything else, as of a cache that layers write to, sameness would say nothing.
    plain = (bool, int, float, str, type(None))
    return isinstance(one, plain) and type(one) is type(other) and one == other
