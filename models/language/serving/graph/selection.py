"""Work on the tokens that are looked at: the last layer of a network that reads one of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from models.language.serving.graph.editing import (
    Editor,
    ancestors,
    attribute,
    constant,
    producer,
    rank,
)

_LENGTH_AXIS: Final = 1
_QUERY, _MASK = 0, 3  # inputs of Attention
_MASK_QUERY_AXIS: Final = 2  # of a mask (texts, 1, queries, keys)
# What treats every token by itself, given that the other inputs are constants over tokens.
_BY_TOKEN: Final = {
    "Add",
    "Mul",
    "Sub",
    "Div",
    "Pow",
    "MatMul",
    "LayerNormalization",
    "Gelu",
    "Erf",
    "Tanh",
}


def select_early(model: ir.Model) -> bool:
    """Where the answer reads one token of each text, has the last layer work on that one alone.

    In place; returns whether it did. The answers are the same, whatever the network.
    """
    selecting = [node for node in model.graph if _selects_one(node)]
    return any(_Selection(model, node).done() for node in selecting)


def _selects_one(node: ir.Node) -> bool:
    if node.op_type != "Gather" or attribute(node, "axis", 0) != _LENGTH_AXIS:
        return False
    index = constant(node.inputs[1])
    return index is not None and index.ndim == 0 and rank(node.inputs[0]) == 3


@dataclass(frozen=True)
class _Linear:
    states: ir.Value
    weights: NDArray[np.float32]  # (inputs, outputs)
    bias: NDArray[np.float32] | None


class _Selection:
    def __init__(self, model: ir.Model, gather: ir.Node) -> None:
        self._editor = Editor(model, "selected")
        self._gather = gather
        index = constant(gather.inputs[1])
        at = int(index) if index is not None else 0
        last = np.iinfo(np.int64).max if at == -1 else at + 1
        self._slice = [np.array([number]) for number in (at, last, _LENGTH_AXIS)]
        self._made: dict[ir.Value, ir.Value] = {}
        self._attentions: list[ir.Node] = []

    def done(self) -> bool:
        """Rewrites, where attention stands behind the selection."""
        states = self._gather.inputs[0]
        if states is None:
            return False
        self._find(states, set())
        if not self._attentions:
            return False
        # What attention reads whole is there anyway; what stands above it is not needed whole.
        self._whole = ancestors(
            given for node in self._attentions for given in node.inputs[1:] if given is not None
        )
        one = self._selected(states)
        axes = self._editor.constant(np.array([_LENGTH_AXIS]))
        answer = self._gather.outputs[0]
        flat = self._editor.before(self._gather, "Squeeze", [one, axes], answer)
        answer.replace_all_uses_with(flat, replace_graph_outputs=True)
        return True

    def _find(self, value: ir.Value, seen: set[ir.Value]) -> None:
        if value in seen:
            return
        seen.add(value)
        node = value.producer()
        if node is not None and node.op_type == "Attention":
            self._attentions.append(node)
        elif node is not None and _is_by_token(value):
            for given in node.inputs:
                if given is not None and rank(given) == 3:
                    self._find(given, seen)

    def _selected(self, value: ir.Value) -> ir.Value:
        """`value` at the token selected, (texts, 1, width)."""
        if value not in self._made:
            self._made[value] = self._make(value)
        return self._made[value]

    def _make(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        if node is not None and value not in self._whole:
            if node in self._attentions:
                inputs = list(node.inputs)
                for at, cut in ((_QUERY, self._selected), (_MASK, self._cut_mask)):
                    given = inputs[at] if at < len(inputs) else None
                    inputs[at : at + 1] = [cut(given)] if given is not None else inputs[at : at + 1]
                return self._absorbed(node, inputs) or self._again(node, inputs)
            if _is_by_token(value):
                inputs = [
                    self._selected(given) if given is not None and rank(given) == 3 else given
                    for given in node.inputs
                ]
                return self._again(node, inputs)
        return self._cut(value, _LENGTH_AXIS)

    def _absorbed(self, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Value | None:
        """Attention of one token that asks the states themselves, not keys and values of them.

        With one query q per text, q·(Wx + b) = (Wᵀq)·x + q·b for every state x, and softmax does
        not see what is the same for all; so, the other way round, for the values. It saves two
        products over all tokens. None where keys and values are not linear in the same states.
        """
        key, value = _linear(inputs[1]), _linear(inputs[2])
        query, mask = inputs[_QUERY], inputs[_MASK] if len(inputs) > _MASK else None
        if query is None or key is None or value is None or key.states is not value.states:
            return None
        states, editor, place = key.states, self._editor, self._gather
        n_heads, width = attribute(node, "q_num_heads"), len(key.weights)
        to_keys, to_values = (layer.weights.reshape(width, n_heads, -1) for layer in (key, value))

        def shaped(given: ir.Value, *sizes: int) -> ir.Value:
            return editor.before(place, "Reshape", [given, editor.constant(np.array(sizes))])

        asked = shaped(query, 0, n_heads, 1, -1)
        turning = to_keys.transpose(1, 2, 0) * np.float32(attribute(node, "scale"))
        asked = editor.before(place, "MatMul", [asked, editor.constant(turning)])
        turned = editor.before(place, "Transpose", [states], perm=[0, 2, 1])
        scores = editor.before(place, "MatMul", [shaped(asked, 0, n_heads, width), turned])
        if mask is not None:
            mask = editor.before(place, "Squeeze", [mask, editor.constant(np.array([1]))])
            scores = editor.before(place, "Add", [scores, mask])
        shares = editor.before(place, "Softmax", [scores], axis=-1)
        mixed = shaped(editor.before(place, "MatMul", [shares, states]), 0, n_heads, 1, width)
        told = editor.constant(to_values.transpose(1, 0, 2))
        mixed = editor.before(place, "MatMul", [mixed, told])
        made = shaped(mixed, 0, 1, value.weights.shape[1])
        if value.bias is not None:
            made = editor.before(place, "Add", [made, editor.constant(value.bias)])
        self._shaped(made, node.outputs[0], _LENGTH_AXIS)
        return made

    def _again(self, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Value:
        given = {name: found.value for name, found in node.attributes.items()}
        made = self._editor.before(
            self._gather, node.op_type, inputs, contrib=bool(node.domain), **given
        )
        self._shaped(made, node.outputs[0], _LENGTH_AXIS)
        return made

    def _cut_mask(self, mask: ir.Value) -> ir.Value:
        return self._cut(mask, _MASK_QUERY_AXIS)

    def _cut(self, value: ir.Value, axis: int) -> ir.Value:
        start, end, _ = self._slice
        bounds = [self._editor.constant(part) for part in (start, end, np.array([axis]))]
        made = self._editor.before(self._gather, "Slice", [value, *bounds])
        self._shaped(made, value, axis)
        return made

    def _shaped(self, made: ir.Value, like: ir.Value, axis: int) -> None:
        made.type = like.type
        if like.shape is not None:
            sizes = list(like.shape)
            sizes[axis] = 1
            made.shape = ir.Shape(sizes)


def _linear(value: ir.Value | None) -> _Linear | None:
    """What `value` is made of, where it is a linear layer over states."""
    bias, added = None, producer(value, "Add")
    if added is not None:
        at = 0 if constant(added.inputs[0]) is not None else 1
        bias, value = constant(added.inputs[at]), added.inputs[1 - at]
        if bias is None:
            return None
    product = producer(value, "MatMul")
    states = product.inputs[0] if product is not None else None
    weights = constant(product.inputs[1]) if product is not None else None
    if states is None or rank(states) != 3 or weights is None or weights.ndim != 2:
        return None
    return _Linear(states, weights, bias)


def _is_by_token(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or node.op_type not in _BY_TOKEN or rank(value) != 3:
        return False
    first, *others = node.inputs
    if rank(first) != 3:
        return False
    if node.op_type == "LayerNormalization" and attribute(node, "axis", -1) not in (-1, 2):
        return False
    if node.op_type == "MatMul":
        return constant(others[0]) is not None
    return all(
        given is None
        or rank(given) == 3
        or ((rank(given) or 0) <= 1 and constant(given) is not None)
        for given in others
    )
