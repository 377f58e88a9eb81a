"""How a transformer is put together, seen by watching it run, and how to run part of it.

To train the top layers on stored states of the lower ones, one must enter and leave between layers,
and what a layer is given beside the states (masks, rotations, relative positions) differs by
family. No family is known here: a few tokens are sent through, and where what the layers are given
follows from the mask alone, the model can be cut between any two.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.errors import MemberError
from models.language.limits import NO_LIST
from models.language.networks.layers import (
    Beside,
    Passage,
    form_of,
    in_form,
    layers_name,
    names_around,
    states_of,
    watched,
)

# Two texts that differ from their fourth token on; of the second the last token is padding.
_TEXTS: Final = ((3, 4, 5, 6, 7), (3, 4, 5, 7, 8))
_MASK: Final = ((1, 1, 1, 1, 1), (1, 1, 1, 1, 0))
_SHARED: Final = 3  # tokens that both begin with
_UNPADDED: Final = 4  # tokens of the second
# In standard deviations of the states: beyond what sums differ by, below what a token tells another
# even where weights are random and small.
_ROUNDING: Final = 1e-5
_PADDING: Final = 1e-3


@dataclass(frozen=True)
class _Parts:
    """The parts of a model that can be cut, by name, for modules may be replaced by others."""

    layers: str
    base: list[str]
    crown: list[str]
    forms: list[int]  # in which the layers answer
    finishes: bool  # whether the model does anything to what the topmost layer answers


class _WholeError(Exception):
    """Why a model cannot be cut between layers."""


class Anatomy:
    """A transformer of the library, and the parts that it was seen to have.

    One that cannot be cut between layers says why in `whole`, and counts as one layer. Looking at a
    model takes some passes of a few tokens, and leaves it in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.whole = ""
        self._parts: _Parts | None = None
        try:
            asked = signature(model.forward).parameters
            kinds = getattr(model.config, "type_vocab_size", None) or 0
            self.takes_segments = "token_type_ids" in asked and kinds > 1
            self._how = {"use_cache": False} if "use_cache" in asked else {}
            model.eval()
            with torch.no_grad():
                self.reads_forward = self._reads_forward()  # a token sees those before it alone
        except MemberError:
            raise
        except Exception as error:  # whatever a model raises that expects something else
            raise MemberError(
                f"a model of architecture {model.config.model_type!r} does not answer token ids "
                f"and a mask with states ({type(error).__name__}: {error}); expected one that "
                "reads text, an encoder or a decoder by itself"
            ) from error
        try:
            with torch.no_grad():
                self._parts = self._examined()
        except _WholeError as error:
            self.whole = str(error)
        except Exception as error:  # it answers, by layers that do not do what layers do
            self.whole = f"its layers could not be watched ({type(error).__name__}: {error})"

    def layers(self) -> Sequence[nn.Module]:
        """The layers, lowest first; the model itself where it cannot be cut."""
        return list(self._part(self._parts.layers).children()) if self._parts else [self.model]

    def base(self) -> list[nn.Module]:
        """What all layers rest on: embeddings, and positions that every layer shares."""
        return [self._part(name) for name in self._parts.base] if self._parts else []

    def crown(self) -> list[nn.Module]:
        """What follows the topmost layer."""
        return [self._part(name) for name in self._parts.crown] if self._parts else []

    def most_tokens(self) -> int | None:
        """The longest text that the model has positions for; None where it knows no such limit."""
        most = getattr(self.model.config, "max_position_embeddings", None)
        if not isinstance(most, int) or most < 1:
            return None
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
                # Where positions begin behind the padding's id, there are fewer than rows.
                most -= 0 if module.padding_idx is None else module.padding_idx + 1
        return most

    def states(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """The states of all tokens, as the model itself gives them."""
        given = {"token_type_ids": segments} if self.takes_segments else {}
        answer = self.model(input_ids=ids, attention_mask=mask, **given, **self._how)
        states: Tensor = answer.last_hidden_state
        return states

    def lower(self, layers: int, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """The states that enter layer `layers`; those that leave the topmost with all of them."""
        passage = self._passed(self._cut(), ids, mask, segments)
        return self._run(passage.entered[0], mask, passage.beside[:layers], first=0)

    def upper(self, layers: int, states: Tensor, mask: Tensor) -> Tensor:
        """What `states` answers, from the states that `lower(layers, …)` gave."""
        parts, nothing = self._cut(), torch.zeros_like(mask)
        passage = self._passed(parts, nothing, mask, nothing)
        top = self._run(states, mask, passage.beside[layers:], first=layers)
        if not parts.finishes:
            return top
        with watched(self.layers(), lambda at, _: in_form(top, parts.forms[at])):
            return self.states(nothing, mask, nothing)

    def _run(self, states: Tensor, mask: Tensor, beside: list[Beside], *, first: int) -> Tensor:
        """`states` through as many layers as `beside` is for, from the layer `first` on."""
        layers = self.layers()[first : first + len(beside)]
        for at, (layer, given) in enumerate(zip(layers, beside, strict=True), start=first):
            entered = states
            states = states_of(layer(states, *given.positional, **given.named))
            states = self._behind(at, entered, states, mask)
        return states

    def _behind(self, at: int, entered: Tensor, left: Tensor, mask: Tensor) -> Tensor:
        """What enters the next layer. Only large DeBERTas do anything to what left the last one."""
        convolution = None
        if at == 0 and self.model.config.model_type == "deberta-v2":
            convolution = self.model.encoder.conv
        return left if convolution is None else states_of(convolution(entered, left, mask))

    def _passed(self, parts: _Parts, ids: Tensor, mask: Tensor, segments: Tensor) -> Passage:
        """What the layers are given, without running them."""
        layers = list(self._part(parts.layers).children())
        with watched(layers, lambda at, states: in_form(states, parts.forms[at])) as passage:
            self.states(ids, mask, segments)
        return passage

    def _cut(self) -> _Parts:
        if self._parts is None:
            raise MemberError(f"the model cannot be cut between layers: {self.whole}")
        return self._parts

    def _part(self, name: str) -> nn.Module:
        part: nn.Module = self.model.get_submodule(name)
        return part

    def _example(self) -> tuple[Tensor, Tensor, Tensor]:
        table = self.model.get_input_embeddings().weight
        ids = torch.tensor(_TEXTS, device=table.device) % len(table)
        return ids, torch.tensor(_MASK, device=table.device), torch.zeros_like(ids)

    def _reads_forward(self) -> bool:
        """Whether tokens are told nothing by later ones; refuses a model whose padding tells."""
        first, second = self.states(*self._example())
        (alone,) = self.states(*(part[1:, :_UNPADDED] for part in self._example()))
        spread = float(alone.std())
        if _gap(alone, second[:_UNPADDED]) > _PADDING * spread:
            raise MemberError(
                f"what a model of architecture {self.model.config.model_type!r} answers for a text "
                "depends on the padding behind it; expected one that heeds the mask"
            )
        return _gap(first[:_SHARED], second[:_SHARED]) <= _ROUNDING * spread

    def _examined(self) -> _Parts:
        """The parts of the model, seen in one pass; refuses one that cannot be cut by them."""
        name = layers_name(self.model)
        if name is None:
            raise _WholeError(NO_LIST)
        layers = list(self._part(name).children())
        around = names_around(self.model, name)
        ids, mask, segments = self._example()
        done: dict[str, int] = {}  # part → layers that had answered when it was first called
        with ExitStack() as stack, watched(layers) as passage:
            for part in around:
                hook = _noting(done, part, passage)
                stack.enter_context(self._part(part).register_forward_pre_hook(hook))
            answer = self.states(ids, mask, segments)
        if passage.layers != list(range(len(layers))):
            raise _WholeError(f"it called its {len(layers)} layers as {passage.layers}")
        left = [
            self._behind(at, passage.entered[at], states_of(found), mask)
            for at, found in enumerate(passage.left)
        ]
        for at, (states, entered) in enumerate(zip(left, passage.entered[1:], strict=False)):
            if not torch.equal(states, entered):
                raise _WholeError(f"something comes between its layers {at} and {at + 1}")
        parts = _Parts(
            layers=name,
            base=[part for part in around if done.get(part) != len(layers)],
            crown=[part for part in around if done.get(part) == len(layers)],
            forms=[form_of(found) for found in passage.left],
            finishes=not torch.equal(answer, left[-1]),
        )
        # Other tokens, and layers that leave states as they are, must change nothing beside them.
        other = self._passed(parts, torch.zeros_like(ids), mask, segments)
        if not all(map(Beside.is_as, passage.beside, other.beside)):
            raise _WholeError("its layers are given what does not follow from the mask alone")
        inside = {id(p) for part in (name, *around) for p in self._part(part).parameters()}
        if any(id(p) not in inside for p in self.model.parameters()):
            raise _WholeError("it has weights that belong to none of its parts")
        return parts


def _noting(done: dict[str, int], part: str, passage: Passage) -> Callable[..., None]:
    def note(*_: Any) -> None:
        done.setdefault(part, len(passage.left))

    return note


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
